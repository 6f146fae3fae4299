"""Tasks: the loss with which networks are trained, and the score by which they are compared.

Architectures and data sets name their task. A further task is one more class, registered in TASKS.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol

from torch import Tensor
from torch.nn import functional as F

from popgen.errors import unknown_name

Reduction = Literal["mean", "sum"]
CLASSIFICATION = "classification"
NEXT_TOKEN = "next-token"
_LARGEST_EXPONENT = 700.0  # exp of it is finite
LOWER_IS_BETTER = ("perplexity",)  # units


class Task(Protocol):
    """The contract of a task, which compares a network's outputs with targets."""

    @property
    def name(self) -> str:
        """The task's key in TASKS."""

    @property
    def unit(self) -> str:
        """The unit of the score, such as accuracy or correlation."""

    def loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction = "mean") -> Tensor:
        """The mean or sum of a differentiable loss over all targets; lower is better."""

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """The quality of the outputs in the task's unit; higher is better unless the unit is in LOWER_IS_BETTER."""


class Classification:
    """Classification: logits (n, classes) are compared with the indices of the true classes (n,).

    The loss is the cross-entropy in nats, and the score is the accuracy, from 0 to 1.

    >>> import torch
    >>> Classification().score(torch.eye(2), torch.tensor([0, 0]))
    0.5
    """

    name = CLASSIFICATION
    unit = "accuracy"

    def loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction = "mean") -> Tensor:
        """Cross-entropy of logits (n, classes) and labels (n,)."""
        return F.cross_entropy(outputs, targets, reduction=reduction)

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Accuracy, 0 to 1."""
        return int((outputs.argmax(1) == targets).sum()) / max(len(targets), 1)


class NextToken:
    """Prediction of each next token: the outputs are log likelihoods in nats, exactly 0 where there is no token.

    The targets only count the texts. The loss is the mean over all tokens of all texts, the score the perplexity.

    >>> import torch
    >>> outputs = torch.tensor([[-1.0, -3.0], [-2.0, 0.0]])
    >>> round(NextToken().score(outputs, torch.zeros(2)), 3)  # exp(2)
    7.389
    """

    name = NEXT_TOKEN
    unit = "perplexity"

    def loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction = "mean") -> Tensor:
        """The negative mean of log likelihoods (n, ...) that are not 0; the sum counts each text with that mean."""
        mean = -outputs.sum() / (outputs != 0).sum().clamp_min(1)
        return mean if reduction == "mean" else mean * targets.numel()

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Perplexity, 1 or more."""
        return math.exp(min(float(self.loss(outputs, targets)), _LARGEST_EXPONENT))


TASKS: dict[str, Task] = {CLASSIFICATION: Classification(), NEXT_TOKEN: NextToken()}


def goodness(unit: str, score: float) -> float:
    """A score as a number of which a higher one is better, whatever its unit.

    >>> goodness("accuracy", 0.5), goodness("perplexity", 8.0)
    (0.5, -8.0)
    """
    return -score if unit in LOWER_IS_BETTER else score


def lost(unit: str, before: float, after: float) -> float:
    """How much worse a second score is: accuracy that is lost, or the nats for each token by which a perplexity rose.

    A hundredth is a point of accuracy, and about one percent of a perplexity.

    >>> lost("accuracy", 0.75, 0.5), lost("perplexity", 10.0, 10.0)
    (0.25, 0.0)
    """
    return math.log(after / before) if unit in LOWER_IS_BETTER else before - after


def get_task(name: str) -> Task:
    """Return the task with this name.

    Raises:
        NotFound: no task has this name.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]


def score_key(unit: str, split: str) -> str:
    """Return the key of a split's score in records and JSON: `val_accuracy` for an accuracy, otherwise `val_score`.

    >>> score_key("accuracy", "val"), score_key("perplexity", "val")
    ('val_accuracy', 'val_score')
    """
    return f"{split}_accuracy" if unit == "accuracy" else f"{split}_score"


def keyed_scores(unit: str, **scores: float | None) -> dict[str, float | str | None]:
    """Return the scores of splits under their keys in records and JSON, with the unit unless it is accuracy.

    >>> keyed_scores("accuracy", val=0.5), keyed_scores("perplexity", val=0.5)
    ({'val_accuracy': 0.5}, {'val_score': 0.5, 'unit': 'perplexity'})
    """
    keyed: dict[str, float | str | None] = {score_key(unit, split): value for split, value in scores.items()}
    return keyed if unit == "accuracy" else {**keyed, "unit": unit}
