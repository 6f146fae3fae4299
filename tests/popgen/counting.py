"""A second task for the tests: networks that continue sequences of digits, and data sets that count in steps.

`counting:by1` holds sequences such as 3 4 5 6, and `counting:by3` sequences such as 3 6 9 2. A network is trained to
predict the next digit at every position. `register` shows all that a further task adds to popgen: a task, a kind of
inputs, and an encoder of examples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popgen.archs.inputs import INPUTS
from popgen.data.dataset import DataSet, from_arrays
from popgen.encoders.examples import ENCODERS
from popgen.tasks import TASKS, Reduction

DIGITS, LENGTH, EXAMPLES = 10, 6, 100
NAME = "next-digit"


class NextDigit:
    """Prediction of the next digit: logits (n, length, digits) are compared with the next digits (n, length)."""

    name = NAME
    unit = "inverse perplexity"

    def loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction = "mean") -> Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction=reduction)

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Inverse perplexity: 1 for certain and correct predictions, 1 / digits for uniform guesses."""
        return math.exp(-float(self.loss(outputs, targets)))


@dataclass(frozen=True)
class Sequences:
    """Sequences of digits, which enter the network unchanged."""

    kind: ClassVar[str] = "digits-in-a-row"
    costly: ClassVar[bool] = False

    length: int = LENGTH

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    def prepare(self, examples: Tensor) -> Tensor:
        return examples

    def example(self, n: int = 1) -> Tensor:
        return torch.arange(n * self.length).view(n, self.length) % DIGITS

    def text(self) -> str:
        return f"input {self.length} digits"

    def remark(self, shape: tuple[int, ...]) -> str:
        return ""

    def to_json(self) -> dict[str, Any]:
        return {"length": self.length}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Sequences:
        return cls(**data)


class Differences:
    """An encoder of sequences: the share of each difference, modulo 10, between neighbouring digits."""

    dim = DIGITS

    def features(self, examples: Tensor) -> Tensor:
        steps = (examples[:, 1:] - examples[:, :-1]) % DIGITS
        return F.one_hot(steps, DIGITS).float().mean(1)


def counter(width: int = 16) -> nn.Module:
    """A network that sees one digit at a time."""
    return nn.Sequential(nn.Embedding(DIGITS, width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, DIGITS))


counter.classes, counter.inputs, counter.task = DIGITS, Sequences(), NAME  # type: ignore[attr-defined]


def _counted(step: int) -> DataSet:
    """Sequences that count in steps of `step` from random starts; one digit in twenty is redrawn at random."""
    generator = torch.Generator().manual_seed(step)
    starts = torch.randint(DIGITS, (EXAMPLES, 1), generator=generator)
    digits = (starts + step * torch.arange(LENGTH + 1)) % DIGITS
    noise = torch.rand(digits.shape, generator=generator) < 0.05
    digits = torch.where(noise, torch.randint(DIGITS, digits.shape, generator=generator), digits)
    pool = from_arrays(f"counting:by{step}", digits, torch.zeros(EXAMPLES, dtype=torch.long), tuple("0123456789"))
    data = pool.each(lambda part: type(part)(part.inputs[:, :-1], part.inputs[:, 1:]))
    return DataSet(data.name, data.classes, data.train, data.val, data.test, task=NAME)


def by1() -> DataSet:
    return _counted(1)


def by2() -> DataSet:
    return _counted(2)


def by3() -> DataSet:
    return _counted(3)


def by7() -> DataSet:
    return _counted(7)


def by8() -> DataSet:
    return _counted(8)


def by9() -> DataSet:
    return _counted(9)


def register() -> None:
    """Register the task, its inputs and its encoder with popgen in this process."""
    TASKS[NAME] = NextDigit()
    INPUTS[Sequences.kind] = Sequences
    ENCODERS["differences"] = lambda _: Differences()


def unregister() -> None:
    """Undo `register`."""
    TASKS.pop(NAME, None)
    INPUTS.pop(Sequences.kind, None)
    ENCODERS.pop("differences", None)
