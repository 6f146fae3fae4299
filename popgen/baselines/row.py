"""A row of a search's table: how many evaluations it took, its scores, and what they become with more training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from popgen.baselines.optimism import Optimism
from popgen.data import DataSet
from popgen.fitness import Scored
from popgen.networks.forward import network_outputs, task_score
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

    `images` are the numbers of validation and test images that the scores are from, 0 where they are not known. `scored`
    is its network, None where the row is a mean over several. `finetuned` are scores of that network after epochs of
    training on the whole training split. `optimism` is that of the validation accuracy, None where nothing was chosen by it.
    """

    name: str
    evaluations: int
    val_score: float
    test_score: float
    val_loss: float
    unit: str = "accuracy"
    finetuned: list[Finetuned] = field(default_factory=list)
    optimism: Optimism | None = None
    scored: Scored | None = field(default=None, compare=False, repr=False)
    images: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, name: str, evaluations: float, scored: Scored, data: DataSet, optimism: Optimism | None = None) -> Row:
        """The row of one network; the only place where its score on test examples is looked at."""
        unit, tested = unit_of(scored), test_score(scored, data)
        images = len(scored.targets), len(data.test)
        return cls(
            name,
            whole(evaluations),
            scored.score,
            tested,
            scored.finite_loss,
            unit,
            optimism=optimism,
            scored=scored,
            images=images,
        )

    def standard_errors(self) -> tuple[float | None, float | None]:
        """The standard errors of the validation and the test score, see `standard_error`; None if they are not known."""
        if self.unit != "accuracy":
            return None, None
        return standard_error(self.val_score, self.images[0]), standard_error(self.test_score, self.images[1])

    def to_json(self) -> dict[str, Any]:
        """The keys of a row in result.json; they are stable."""

        def known(value: float | None) -> float | None:
            return None if value is None else round(value, 6)

        return {
            "name": self.name,
            "evaluations": self.evaluations,
            **keyed_scores(self.unit, val=self.val_score, test=self.test_score),
            **dict(zip(("val_standard_error", "test_standard_error"), self.standard_errors(), strict=True)),
            "val_optimism": None if self.optimism is None else round(self.optimism.value, 6),
            "val_optimism_standard_error": None if self.optimism is None else known(self.optimism.standard_error),
            "val_optimism_bound": None if self.optimism is None else known(self.optimism.bound),
            "val_loss": self.val_loss,
            "finetuned": [one.to_json() for one in self.finetuned],
        }


def standard_error(accuracy: float, images: int) -> float | None:
    """The standard error of an accuracy on so many images, sqrt(p (1 - p) / n); None if either is not known.

    >>> standard_error(0.9, 100), standard_error(0.9, 0)
    (0.03, None)
    """
    if images == 0 or not 0 <= accuracy <= 1:
        return None
    return round(math.sqrt(accuracy * (1 - accuracy) / images), 6)


def disagreements(rows: Sequence[Row]) -> list[str]:
    """A remark on each row whose test accuracy differs from its validation accuracy, less the optimism, beyond chance.

    The chance of any remark where there is no difference is at most 5% over all rows (Bonferroni).
    """
    found = []
    errors = NormalDist().inv_cdf(1 - 0.025 / max(len(rows), 1))
    for row in rows:
        val, test = row.standard_errors()
        if val is None or test is None:
            continue
        value, its_error = (0.0, None) if row.optimism is None else (row.optimism.value, row.optimism.standard_error)
        expected, error = row.val_score - value, math.hypot(val, test, its_error or 0.0)
        if abs(row.test_score - expected) > errors * error:
            side = "below" if row.test_score < expected else "above"
            less = "" if row.optimism is None else ", less its optimism,"
            found.append(
                f"{row.name}: the test accuracy {row.test_score:.3f} is {side} the validation accuracy {row.val_score:.3f}{less} by "
                f"{abs(row.test_score - expected) / error:.1f} standard errors: the two splits differ, or candidates were bred on the "
                "validation images"
            )
    return found


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
    return task_score(scored.spec, scored.flat, data, "test")


def test_outcomes(scored: Scored, data: DataSet) -> Tensor | None:
    """Which test images (n,) a finished network answers right, as 0 and 1; None where a score is not a share of right answers."""
    if unit_of(scored) != "accuracy" or data.test.targets.dim() > 1:
        return None
    outputs = network_outputs(scored.spec, scored.flat, scored.spec.config.inputs.prepare(data.test.inputs))
    return (outputs.argmax(1) == data.test.targets).to(torch.uint8)


test_outcomes.__test__ = False  # type: ignore[attr-defined]
test_score.__test__ = False  # type: ignore[attr-defined]  # not a test for pytest
