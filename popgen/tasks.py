"""What a network is trained for: a loss, and a score with its unit. Everything that trains or compares networks goes through a Task.

A further task is one more entry of TASKS; architectures and data sets name it.
"""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor
from torch.nn import functional as F

from popgen.errors import unknown_name

Reduction = Literal["mean", "sum"]
CLASSIFICATION = "classification"


class Task(Protocol):
    """How outputs are compared with targets."""

    @property
    def name(self) -> str:
        """Its key in TASKS."""

    @property
    def unit(self) -> str:
        """What the score is: accuracy, perplexity, correlation."""

    def loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction = "mean") -> Tensor:
        """A differentiable scalar, lower is better: the mean or the sum over all targets."""

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """How good the outputs are in the task's unit; higher is better."""


class Classification:
    """Logits (n, classes) against classes (n,): cross-entropy in nats, and the share of right answers.

    >>> import torch
    >>> Classification().score(torch.eye(2), torch.tensor([0, 0]))
    0.5
    """

    name = CLASSIFICATION
    unit = "accuracy"

    def loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction = "mean") -> Tensor:
        return F.cross_entropy(outputs, targets, reduction=reduction)

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        return int((outputs.argmax(1) == targets).sum()) / max(len(targets), 1)


TASKS: dict[str, Task] = {CLASSIFICATION: Classification()}


def get_task(name: str) -> Task:
    """The task of that name.

    Raises:
        NotFound: there is none.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]


def score_key(unit: str, split: str) -> str:
    """The key of a split's score in records and JSON: `val_accuracy` for an accuracy, else `val_score`.

    >>> score_key("accuracy", "val"), score_key("perplexity", "val")
    ('val_accuracy', 'val_score')
    """
    return f"{split}_accuracy" if unit == "accuracy" else f"{split}_score"


def keyed_scores(unit: str, **scores: float | None) -> dict[str, float | str | None]:
    """Scores under the keys of records and JSON; a unit other than accuracy stands beside them.

    >>> keyed_scores("accuracy", val=0.5), keyed_scores("perplexity", val=0.5)
    ({'val_accuracy': 0.5}, {'val_score': 0.5, 'unit': 'perplexity'})
    """
    keyed: dict[str, float | str | None] = {score_key(unit, split): value for split, value in scores.items()}
    return keyed if unit == "accuracy" else {**keyed, "unit": unit}
