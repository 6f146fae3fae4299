"""What one checkpoint makes of labelled examples, and the score that a method gives it for that."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from popgen.tasks import CLASSIFICATION
from popgen.types import Labels

_FOLDS = 5  # groups of examples that the jackknife leaves out one by one


@dataclass(frozen=True)
class Seen:
    """A checkpoint's features and outputs of n examples, and their targets.

    Attributes:
        features: inputs (n, f) of the head.
        outputs: logits (n, ..., outputs) of the network's own classes.
        targets: those of the data set; class indices (n,) in classification.
        classes: number of classes of the data set.
        rows: the network's output for each class of the data set, or None where the names of its classes do not say it.
        task: a key of popgen.tasks.TASKS.
    """

    features: Tensor
    outputs: Tensor
    targets: Labels
    classes: int
    rows: tuple[int, ...] | None = None
    task: str = CLASSIFICATION

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, index: Tensor) -> Seen:
        """The examples at the given indices."""
        return Seen(self.features[index], self.outputs[index], self.targets[index], self.classes, self.rows, self.task)


@dataclass(frozen=True)
class Score:
    """A score, of which a higher one is better, with its standard error over the examples; `order` decides where it is given."""

    value: float
    error: float
    order: float | None = None

    @property
    def key(self) -> float:
        """The number by which checkpoints are ordered, a higher one first; what is no number comes last."""
        key = self.value if self.order is None else self.order
        return key if math.isfinite(key) else -math.inf


def mean_score(of_examples: Tensor, order: float | None = None) -> Score:
    """The mean of a score of each example (n,), with its standard error.

    >>> score = mean_score(torch.tensor([1.0, 0.0, 1.0, 0.0]))
    >>> score.value, round(score.error, 3)
    (0.5, 0.289)
    """
    values = of_examples.double()
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Score(float(values.mean()), error, order)


def jackknifed(score: float, without: list[float]) -> Score:
    """A score with the jackknife's standard error, from the scores without each of some equal groups of examples.

    The formula is sqrt((g - 1) / g * sum of squared distances to the mean) for g groups (Efron and Tibshirani, An
    Introduction to the Bootstrap, section 11.5).

    >>> round(jackknifed(1.0, [0.9, 1.1]).error, 3)
    0.1
    """
    values = torch.tensor(without, dtype=torch.float64)
    groups = len(values)
    error = (
        math.sqrt((groups - 1) / groups * float((values - values.mean()).square().sum())) if groups > 1 else math.nan
    )
    return Score(score, error)


def folds(count: int) -> list[Tensor]:
    """The indices that stay when each of five groups of `count` examples is left out; [] for fewer than ten examples.

    >>> [len(kept) for kept in folds(10)], folds(9)
    ([8, 8, 8, 8, 8], [])
    """
    index = torch.arange(count)
    return [index[index % _FOLDS != fold] for fold in range(_FOLDS)] if count >= 2 * _FOLDS else []
