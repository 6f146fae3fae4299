"""The adapter that a search gives back: the best of some named candidates by the labels, or what the search found beyond them.

The candidates are the frozen base, what is generated from nothing, from the task's words, its texts and both, and adapters of the zoo:
by fewer than ENOUGH_LABELS labels those of the nearest task, by more all that are seeds of the search, which are all of the zoo's
unless the user limits them. With few labels the best of many candidates is flattered: by sixteen labels the zoo's best ended below
the nearest on test texts, by sixty-four above it (examples/results/text_adapters.md). Each candidate costs the search an evaluation.

What the search found is given back where its gain over the best of these is above two standard errors. Every example's loss under the
one is paired with its loss under the other; where few labels are all there are, the losses are those of leaving each example out, so
that a head fitted to the others is judged by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from popgen.fitness import Scored
from popgen.fitness.information import STANDARD_ERRORS, is_gain, mean_and_error
from popgen.fitness.loss import image_losses
from search import Population, Record

FROZEN = "frozen"
_EXPERT = "expert:"
# Mean test accuracy over six tasks that no adapter of the zoo was trained on: by 64 labels the best of all 34 adapters has .814, the
# nearest task's have .798; by 16 labels .719 and .740. What a search gives back by 64 labels: .806 and .800.
ENOUGH_LABELS = 64


@dataclass(frozen=True)
class Candidates:
    """The rows of a population that labels choose among, by their names.

    `of_zoo` of the candidates are the zoo's adapters. Where these are all of them, the one with the lowest loss stands for them; `missed`
    of them were not evaluated, because the budget ended before.
    """

    rows: dict[str, int]
    of_zoo: int
    missed: int = 0

    @property
    def count(self) -> int:
        """How many candidates were compared."""
        return self.of_zoo + sum(not name.startswith(_EXPERT) for name in self.rows)


@dataclass(frozen=True)
class LabelChoice:
    """The best candidate, its gain in loss over the frozen base, and that of the search over it, with standard errors."""

    labels: int
    candidates: int
    of_zoo: int  # candidates that are the zoo's adapters
    missed: int  # adapters of the zoo that would be candidates if the search had had more evaluations
    name: str
    accuracy: float
    base_accuracy: float
    gain: float
    error: float
    search_gain: float
    search_error: float

    @classmethod
    def of(cls, best: Scored, named: Mapping[str, Scored], among: Candidates) -> LabelChoice:
        """The choice between the search's best and the scored candidates, one of which is the frozen base."""
        name = min(named, key=lambda one: named[one].finite_loss)
        chosen, base = named[name], named[FROZEN]
        gains = _gain(chosen, base), _gain(best, chosen)
        compared = len(base.targets), among.count, among.of_zoo, among.missed
        return cls(*compared, name, chosen.score, base.score, *gains[0], *gains[1])

    @property
    def is_search_kept(self) -> bool:
        """Whether what the search found is given back."""
        return is_gain(self.search_gain, self.search_error, STANDARD_ERRORS)

    def text(self) -> str:
        """Return a line for people.

        >>> print(LabelChoice(64, 39, 34, 0, "words@1", 0.9, 0.8, 0.2, 0.05, 0.01, 0.03).text())
        chosen by 64 labels among 39 candidates, 34 of them from the zoo: words@1, accuracy 0.900 where the frozen base has 0.800, gain in loss 0.200 ± 0.050; a search gains 0.010 ± 0.030 more, within its error
        """
        more = "and is given back" if self.is_search_kept else "within its error"
        missed = f"; {self.missed} more from the zoo were not reached by the evaluations" if self.missed else ""
        return (
            f"chosen by {self.labels} labels among {self.candidates} candidates, {self.of_zoo} of them from the zoo: {self.name}, "
            f"accuracy {self.accuracy:.3f} where the frozen base has {self.base_accuracy:.3f}, "
            f"gain in loss {self.gain:.3f} ± {self.error:.3f}; a search gains "
            f"{self.search_gain:.3f} ± {self.search_error:.3f} more, {more}{missed}"
        )

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)


def candidates(population: Population, nearest: str, labels: int, records: Iterable[Record]) -> Candidates:
    """The candidates that so many labels choose among.

    Args:
        nearest: name of the nearest task.
        records: the search's evaluations, whose losses without the penalty say which of all the zoo's adapters is the best.
    """
    origins = population.origins
    rows = {one: row for row, one in enumerate(origins) if one == FROZEN or one.endswith("@1")}
    near = {one: row for row, one in enumerate(origins) if one.startswith(_EXPERT) and f"/{nearest}/" in one}
    if labels < ENOUGH_LABELS:
        return Candidates(rows | near, len(near))
    every = {one: row for row, one in enumerate(origins) if one.startswith(_EXPERT)}
    evaluated = {one.origin: one for one in records if one.phase == "seed" and one.origin in every}
    known = {name: one.metrics.get("unpenalised_loss") for name, one in evaluated.items()}
    losses = {name: loss for name, loss in known.items() if loss is not None}
    best = [min(losses, key=losses.__getitem__)] if losses else []
    return Candidates(rows | {name: every[name] for name in best}, len(losses), len(every) - len(evaluated))


def _gain(after: Scored, before: Scored) -> tuple[float, float]:
    paired = image_losses(before.outputs, before.targets) - image_losses(after.outputs, after.targets)
    return mean_and_error(paired.double())
