"""A row of a search's table: how many evaluations it took, its scores, and what they become with more training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from popgen.data import DataSet
from popgen.fitness import Scored
from popgen.networks.forward import task_score
from popgen.tasks import get_task, keyed_scores, score_key


@dataclass(frozen=True)
class Finetuned:
    """Scores after so many epochs of fine-tuning."""

    epochs: int
    val_score: float
    test_score: float
    unit: str = "accuracy"

    def to_json(self) -> dict[str, Any]:
        """The keys in result.json."""
        return {"epochs": self.epochs, **keyed_scores(self.unit, val=self.val_score, test=self.test_score)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Finetuned:
        """The inverse of `to_json`."""
        unit = content.get("unit", "accuracy")
        val, test = (content[score_key(unit, split)] for split in ("val", "test"))
        return cls(content["epochs"], val, test, unit)


@dataclass(frozen=True)
class Row:
    """One row: evaluations by their cost, rounded up; scores in the unit of the task (accuracies are 0 to 1).

    `scored` is its network, None where the row is a mean over several. `finetuned` are scores of that network after epochs of
    training on the whole training split.
    """

    name: str
    evaluations: int
    val_score: float
    test_score: float
    val_loss: float
    unit: str = "accuracy"
    finetuned: list[Finetuned] = field(default_factory=list)
    scored: Scored | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, name: str, evaluations: float, scored: Scored, data: DataSet) -> Row:
        """The row of one network; the only place where its score on test examples is looked at."""
        unit, tested = unit_of(scored), test_score(scored, data)
        return cls(name, whole(evaluations), scored.score, tested, scored.finite_loss, unit, scored=scored)

    def to_json(self) -> dict[str, Any]:
        """The keys of a row in result.json; they are stable."""
        return {
            "name": self.name,
            "evaluations": self.evaluations,
            **keyed_scores(self.unit, val=self.val_score, test=self.test_score),
            "val_loss": self.val_loss,
            "finetuned": [one.to_json() for one in self.finetuned],
        }


def whole(evaluations: float) -> int:
    """Evaluations by their cost, rounded up.

    >>> whole(3.0000000001), whole(3.2)
    (3, 4)
    """
    return math.ceil(evaluations - 1e-9)


def unit_of(scored: Scored) -> str:
    """The unit of a network's score."""
    return get_task(scored.spec.config.task).unit


def test_score(scored: Scored, data: DataSet) -> float:
    """The score of a finished network on the test split. Only tables call this."""
    return task_score(scored.spec, scored.flat, data.test)


test_score.__test__ = False  # type: ignore[attr-defined]  # not a test for pytest
