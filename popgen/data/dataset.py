"""What a data set is: three splits of images with labels, and the fixed splits of a source that has none of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from popgen.tasks import CLASSIFICATION

SPLITS = ("train", "val", "test")
_SPLIT_SEED = 1797


@dataclass(frozen=True)
class Part:
    """One split of a data set: inputs and targets, one of each for every example.

    Images are (n, c, h, w) in [0, 1] with classes (n,) as targets. Other inputs are as the task has them.
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, index: Tensor) -> Part:
        """The examples at `index`."""
        return Part(self.inputs[index], self.targets[index])


@dataclass(frozen=True)
class DataSet:
    """Three splits and the classes' names; `remarks` say what was done to a source that a user should know of.

    Classes are what an output of a network stands for: of a classifier's, what an example may be.
    """

    name: str
    classes: tuple[str, ...]
    train: Part
    val: Part
    test: Part
    remarks: tuple[str, ...] = ()
    task: str = CLASSIFICATION  # a key of popgen.tasks.TASKS

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example; for images channels, height and width."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def has_images(self) -> bool:
        """Whether the examples are images (c, h, w)."""
        return self.train.inputs.dim() == 4 and self.train.inputs.is_floating_point()

    def each(self, change: Callable[[Part], Part]) -> DataSet:
        """The data set with every split changed."""
        return replace(self, train=change(self.train), val=change(self.val), test=change(self.test))

    @cached_property
    def sha256(self) -> str:
        """A hash of all images and labels and of how they are split."""
        digest = hashlib.sha256()
        for split in SPLITS:
            part: Part = getattr(self, split)
            digest.update(part.inputs.contiguous().numpy().data)
            digest.update(part.targets.contiguous().numpy().data)
        return digest.hexdigest()

    def per_class(self, split: str, count: int, generator: torch.Generator) -> Tensor:
        """`count` images of each class, drawn anew (with replacement where a class has fewer).

        Shape (classes, count, c, h, w).
        """
        part: Part = getattr(self, split)
        rows = []
        for label in range(len(self.classes)):
            index = (part.targets == label).nonzero().flatten()
            if len(index) == 0:
                continue
            if len(index) >= count:
                pick = torch.randperm(len(index), generator=generator)[:count]
            else:
                pick = torch.randint(len(index), (count,), generator=generator)
            rows.append(part.inputs[index[pick]])
        return torch.stack(rows)


def from_parts(name: str, classes: tuple[str, ...], parts: dict[str, Part], remarks: tuple[str, ...] = ()) -> DataSet:
    """A data set from the splits that a source has: `train` with or without the others, or one pool under another key.

    What is missing is cut from train, a fifth of each class: first test, then val. A pool is split 3 : 1 : 1.
    """
    if "train" not in parts:
        (pool,) = parts.values()
        return replace(from_arrays(name, pool.inputs, pool.targets, classes), remarks=remarks)
    train, found = parts["train"], dict(parts)
    for split in ("test", "val"):
        if split not in found:
            keep, held = stratified(train.targets, [0.8, 0.2])
            train, found[split] = train.take(keep), train.take(held)
    return DataSet(name, classes, train, found["val"], found["test"], remarks)


def from_arrays(
    name: str, images: Tensor, labels: Tensor, classes: tuple[str, ...], sizes: tuple[float, float] = (0.6, 0.2)
) -> DataSet:
    """A data set from one pool of examples, split by class from a fixed seed; `sizes` are train's and val's shares."""
    order = stratified(labels, [sizes[0], sizes[1], 1 - sum(sizes)])
    train, val, test = (Part(images[i], labels[i]) for i in order)
    return DataSet(name, classes, train, val, test)


def stratified(labels: Tensor, shares: list[float]) -> list[Tensor]:
    """Indices of each share; the examples of a class are dealt so that every share has its part of each class."""
    generator = torch.Generator().manual_seed(_SPLIT_SEED)
    shuffled = torch.randperm(len(labels), generator=generator)
    labels_of = labels[shuffled]
    # position of each example within its class, in (0, 1): cutting there stratifies, and the sizes are exact to one
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        where = (labels_of == label).nonzero().flatten()
        place[where] = (torch.arange(len(where), dtype=torch.float64) + 0.5) / len(where)
    order = shuffled[place.argsort(stable=True)]
    ends = [round(len(labels) * sum(shares[: i + 1])) for i in range(len(shares))]
    return [order[start:end] for start, end in zip([0, *ends], ends, strict=False)]
