"""What a search gained: without labels over the network that it started from, with labels over the zoo.

Without labels the start is given back where there is no gain. The gain is measured on images by which no candidate was chosen: on those that chose, the best of many is flattered. A search around a
ResNet20 for images with noise gained 0.015 nats there, 0.007 on other images, and no accuracy.

With labels the gain says, together with the distance of the data set, whether it is outside the generator's family.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from popgen.baselines.row import Row
from popgen.fitness import Fitness, Scored, scores_of
from popgen.fitness.information import STANDARD_ERRORS, information_gain, is_gain
from popgen.generator.family.look import look
from popgen.generator.family.verdict import After, Family, Reached
from popgen.jobs.searching.source import GeneratorSource, Source
from popgen.networks.forward import network_outputs
from popgen.types import Images
from search import Population

# Rows of the table that no network of the zoo stands behind.
_NOT_OF_ZOO = ("random", "shuffled", "empty", "generated_mean", "generated_best", "generated", "line", "search")
_IMAGES = 2000  # they resolve a hundredth of a nat, and cost two evaluations or so


@dataclass(frozen=True)
class GainOverStart:
    """The gain in mutual information over the start and its standard error, in nats, and the start's name."""

    start: str
    gain: float
    error: float

    @property
    def is_kept(self) -> bool:
        """Whether the start is given back."""
        return not is_gain(self.gain, self.error)

    def text(self) -> str:
        """Return a line for people.

        >>> print(GainOverStart("mean", 0.2, 0.05).text())
        gain in mutual information over the start (mean): 0.200 ± 0.050 nats
        >>> print(GainOverStart("mean", 0.05, 0.05).text())
        gain in mutual information over the start (mean): 0.050 ± 0.050 nats; not above 2 standard errors, so the start is the result
        """
        kept = f"; not above {STANDARD_ERRORS:g} standard errors, so the start is the result" if self.is_kept else ""
        return (
            f"gain in mutual information over the start ({self.start}): {self.gain:.3f} ± {self.error:.3f} nats{kept}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the keys in result.json."""
        return {"start": self.start, "gain": self.gain, "standard_error": self.error, "start_is_kept": self.is_kept}


def gain_over_start(
    fitness: Fitness, start: Tensor, name: str, best: Scored, images: Images
) -> tuple[Scored, GainOverStart | None]:
    """Return the network to give back, and its gain; no gain where the start cannot be scored.

    Args:
        start: weights (p,) before they are finished; they are finished as the candidates were.
        name: the start's name.
        best: the best candidate.
        images: prepared images that chose no candidate, of which at most 2,000 are used.
    """
    scored = [one for one in scores_of(fitness, [start]) if one.outputs.isfinite().all()]
    if not scored:
        return best, None
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:_IMAGES]
    before, after = (network_outputs(one.spec, one.flat, images[order]) for one in (scored[0], best))
    gain = GainOverStart(name, *information_gain(before, after))
    return (scored[0] if gain.is_kept else best), gain


def told_before(source: Source, population: Population, fitness: Fitness, say: Callable[[str], None]) -> Family | None:
    """Say where the data set is outside the generator's family; None for candidates that no generator makes."""
    if not isinstance(source, GeneratorSource):
        return None
    weights = source.decoder.weights(population.mean())
    family = look(source.generator, source.target.source, source.one.data, fitness.spec, weights)
    if family is not None and family.before_text():
        say(f"{source.one.arch}: {family.before_text()}")
    return family


def told_after(
    family: Family | None, rows: Sequence[Row], arch: str, say: Callable[[str], None]
) -> dict[str, Any] | None:
    """Say what the search's rows tell of the data set's place; returns what result.json keeps of it."""
    if family is None:
        return None
    reached = {row.name: found for row in rows if (found := _reached(row)) is not None}
    zoo = [found for name, found in reached.items() if name not in _NOT_OF_ZOO]
    if "search" in reached:
        best = max(zoo, key=lambda found: found.accuracy, default=None)
        family = replace(family, after=After(reached["search"], best))
    if family.after_text():
        say(f"{arch}: {family.after_text()}")
    return family.to_json()


def _reached(row: Row) -> Reached | None:
    """The validation accuracy of a row, less its optimism; None where it is no accuracy or its images are not known."""
    error, _ = row.standard_errors()
    if error is None:
        return None
    flattered = 0.0 if row.optimism is None else max(row.optimism.value, 0.0)
    return Reached(row.name, row.val_score - flattered, error)
