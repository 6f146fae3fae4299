"""The adapter that a search gives back: the best of a few named candidates by the labels, or what the search found beyond them.

With few labels the best of many candidates is flattered: by sixteen labels a search over sixty adapters ended below the best of
these seven on test texts. The candidates are the frozen base, what is generated from nothing, from the task's words, its texts and
both, and the zoo's adapters of the nearest task. What the search found is given back where its gain over the best of these is
above two standard errors. Every example's loss under the one is paired with its loss under the other; where few labels are all there are,
the losses are those of leaving each example out, so that a head fitted to the others is judged by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from popgen.fitness import Scored
from popgen.fitness.information import STANDARD_ERRORS, is_gain, mean_and_error
from popgen.fitness.loss import image_losses
from search import Population

FROZEN = "frozen"


@dataclass(frozen=True)
class LabelChoice:
    """The best named candidate, its gain in loss over the frozen base, and that of the search over it, with standard errors."""

    labels: int
    name: str
    accuracy: float
    base_accuracy: float
    gain: float
    error: float
    search_gain: float
    search_error: float

    @classmethod
    def of(cls, best: Scored, named: Mapping[str, Scored]) -> LabelChoice:
        """The choice between the search's best and the named candidates, one of which is the frozen base."""
        name = min(named, key=lambda one: named[one].finite_loss)
        chosen, base = named[name], named[FROZEN]
        gains = _gain(chosen, base), _gain(best, chosen)
        return cls(len(base.targets), name, chosen.score, base.score, *gains[0], *gains[1])

    @property
    def is_search_kept(self) -> bool:
        """Whether what the search found is given back."""
        return is_gain(self.search_gain, self.search_error, STANDARD_ERRORS)

    def text(self) -> str:
        """Return a line for people.

        >>> print(LabelChoice(64, "words@1", 0.9, 0.8, 0.2, 0.05, 0.01, 0.03).text())
        chosen by 64 labels: words@1, accuracy 0.900 where the frozen base has 0.800, gain in loss 0.200 ± 0.050; a search gains 0.010 ± 0.030 more, within its error
        """
        more = "and is given back" if self.is_search_kept else "within its error"
        return (
            f"chosen by {self.labels} labels: {self.name}, accuracy {self.accuracy:.3f} where the frozen base has "
            f"{self.base_accuracy:.3f}, gain in loss {self.gain:.3f} ± {self.error:.3f}; a search gains "
            f"{self.search_gain:.3f} ± {self.search_error:.3f} more, {more}"
        )

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)


def named_rows(population: Population, nearest: str) -> dict[str, int]:
    """The rows of a population that are named candidates, by their names; `nearest` is the nearest task."""
    return {
        origin: row
        for row, origin in enumerate(population.origins)
        if origin == FROZEN or origin.endswith("@1") or (origin.startswith("expert:") and f"/{nearest}/" in origin)
    }


def _gain(after: Scored, before: Scored) -> tuple[float, float]:
    paired = image_losses(before.outputs, before.targets) - image_losses(after.outputs, after.targets)
    return mean_and_error(paired.double())
