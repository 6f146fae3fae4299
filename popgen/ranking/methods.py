"""The methods by name, and the rule that chooses one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from popgen.ranking.direct import direct
from popgen.ranking.h_score import h_score
from popgen.ranking.knn import knn
from popgen.ranking.leep import leep
from popgen.ranking.logme import logme
from popgen.ranking.nleep import nleep
from popgen.ranking.ridge import ridge
from popgen.ranking.seen import Score, Seen

_FEWEST = 8  # examples


@dataclass(frozen=True)
class Method:
    """A score, and what it needs: features beside outputs, or outputs whose classes are known by name."""

    score: Callable[[Seen], Score]
    what: str  # the score in words, with its unit
    features: bool = True
    names: bool = False

    def first_look(self, classes: int) -> int:
        """The number of examples that a race begins with: features need one of each class at least."""
        return max(_FEWEST, classes) if self.features else _FEWEST


METHODS = {
    "direct": Method(direct, "accuracy", features=False, names=True),
    "knn": Method(knn, "leave-one-out accuracy of 5 nearest neighbours"),
    "ridge": Method(ridge, "leave-one-out accuracy of a ridge head"),
    "logme": Method(logme, "log evidence, nats"),
    "h-score": Method(h_score, "H-score"),
    "leep": Method(leep, "expected log prediction, nats", features=False),
    "n-leep": Method(nleep, "expected log prediction, nats"),
}
FROM_FEATURES = "ridge"  # where names do not match


def choose_method(asked: str, match: Iterable[bool]) -> tuple[str, str]:
    """The method and the reason for it.

    Args:
        asked: a method, or auto.
        match: for each checkpoint whether its outputs stand for the data set's classes, known by their names.

    >>> choose_method("auto", [True, True])[0], choose_method("auto", [True, False])[0]
    ('direct', 'ridge')
    """
    if asked != "auto":
        return asked, "it was asked for"
    known = list(match)
    if all(known):
        return "direct", "the checkpoints know the data set's classes by name"
    return (
        FROM_FEATURES,
        f"{len(known) - sum(known):,} of {len(known):,} checkpoints do not know the data set's classes by name",
    )
