"""A data set in memory: three splits of inputs and targets, and the class names.

A source that lacks splits is split here, stratified by class and from a fixed seed, so that a name always means the
same splits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from popgen.errors import BadInput
from popgen.tasks import CLASSIFICATION
from popgen.types import Labels

SPLITS = ("train", "val", "test")
_KINDS = {"train": "training", "val": "validation", "test": "test"}
_NAMED = 10  # classes that an error names
_MOST_CLASSES = 100_000  # a larger label is an identifier or an error, and no class
_SPLIT_SEED = 1797  # the number of images in scikit-learn's digits; another seed would change every split


@dataclass(frozen=True)
class Part:
    """One split of a data set: the inputs and the targets of its n examples.

    Images have the shape (n, c, h, w) and values in [0, 1], and texts are bytes (n, width), see `popgen.texts`;
    their targets are class indices of shape (n,). The task of the data set defines other inputs and targets. `groups` are indices in the groups of the data set, where it knows them.
    """

    inputs: Tensor
    targets: Tensor
    groups: Labels | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def __repr__(self) -> str:
        return f"Part({len(self):,} examples, inputs {tuple(self.inputs.shape[1:])})"

    @property
    def images(self) -> Tensor:
        """The inputs, by the name that fits most data sets."""
        return self.inputs

    def take(self, index: Tensor) -> Part:
        """The examples at the given indices."""
        groups = None if self.groups is None else self.groups[index]
        return Part(self.inputs[index], self.targets[index], groups)


@dataclass(frozen=True)
class DataSet:
    """Three splits and the class names.

    A network has one output for each class. `remarks` tell the user what was read of the source, what was passed over
    and what was changed, for example that images were resized.
    """

    name: str
    classes: tuple[str, ...]
    train: Part
    val: Part
    test: Part
    remarks: tuple[str, ...] = ()
    task: str = CLASSIFICATION  # a key of popgen.tasks.TASKS
    unread: tuple[str, ...] = ()  # files of a folder that could not be read or are empty, relative to the folder
    groups: tuple[
        str, ...
    ] = ()  # names of the groups that each split's examples belong to, where the data set knows them
    description: str = ""  # the task in words, where its source states it
    phrases: tuple[str, ...] = ()  # a phrase for each class, such as "a positive opinion", where the source states them

    def __repr__(self) -> str:
        splits = ", ".join(f"{name} {len(part):,}" for name, part in vars(self).items() if isinstance(part, Part))
        return f"DataSet({self.name!r}, {len(self.classes)} classes, {splits}, inputs {self.shape})"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input; for images (c, h, w)."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def has_images(self) -> bool:
        """Whether the examples are images (c, h, w)."""
        return self.train.inputs.dim() == 4 and self.train.inputs.is_floating_point()

    @property
    def has_texts(self) -> bool:
        """Whether the examples are texts (n, bytes), see popgen.texts."""
        return self.train.inputs.dim() == 2 and self.train.inputs.dtype == torch.uint8

    @property
    def is_left_out(self) -> bool:
        """Whether validation examples are the training examples, so that a fitted head is scored by leaving each out."""
        return self.val is self.train

    @property
    def noun(self) -> str:
        """What the examples are, in words: images, texts or examples."""
        return "images" if self.has_images else "texts" if self.has_texts else "examples"

    @property
    def label_phrases(self) -> tuple[str, ...]:
        """A phrase for each class: the source's own, or else the class name in words."""
        return self.phrases or tuple(name.replace("_", " ") for name in self.classes)

    def each(self, change: Callable[[Part], Part]) -> DataSet:
        """The data set with `change` applied to each of its three splits. Val stays the same as train where it is."""
        train = change(self.train)
        val = train if self.val is self.train else change(self.val)
        return replace(self, train=train, val=val, test=change(self.test))

    @cached_property
    def sha256(self) -> str:
        """The hexadecimal SHA-256 of all splits' inputs and targets; the name and the classes do not count."""
        digest = hashlib.sha256()
        for split in SPLITS:
            part: Part = getattr(self, split)
            digest.update(part.inputs.contiguous().numpy().data)
            digest.update(part.targets.contiguous().numpy().data)
        return digest.hexdigest()

    def check_classes(self, split: str) -> None:
        """Check that every class has an example in a split.

        Raises:
            BadInput: some classes have none; the message names them.
        """
        counts = getattr(self, split).targets.bincount(minlength=len(self.classes))
        empty = [self.classes[i] for i in (counts[: len(self.classes)] == 0).nonzero().flatten().tolist()]
        if empty:
            raise BadInput(
                f"data set {self.name!r} has classes without {_KINDS[split]} {self.noun}: {', '.join(empty[:_NAMED])}"
                + (f" and {len(empty) - _NAMED} more" if len(empty) > _NAMED else ""),
                f"{self.noun} of each class are needed here",
                "Add some, or name the other classes behind the data set, as in digits/classes:3+5.",
            )

    def per_class(self, split: str, count: int, generator: torch.Generator) -> Tensor:
        """Draw `count` random images of each class, with replacement if a class has fewer than `count`.

        The shape is (classes, count, c, h, w); row i is class i.

        Raises:
            BadInput: a class has no image in the split.
        """
        self.check_classes(split)
        part: Part = getattr(self, split)
        drawn = []
        for label in range(len(self.classes)):
            index = (part.targets == label).nonzero().flatten()
            if len(index) >= count:
                pick = torch.randperm(len(index), generator=generator)[:count]
            else:
                pick = torch.randint(len(index), (count,), generator=generator)
            drawn.append(part.inputs[index[pick]])
        return torch.stack(drawn)


def from_parts(name: str, classes: tuple[str, ...], parts: dict[str, Part], remarks: tuple[str, ...] = ()) -> DataSet:
    """A data set made of the splits that its source has.

    Args:
        parts: `train`, with or without `val` and `test`, or a single unsplit pool under any other key. Missing splits
            are cut from train, each a fifth of every class: first test, then val. A pool is split 3 : 1 : 1.
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
    name: str, images: Tensor, labels: Tensor, classes: tuple[str, ...], shares: tuple[float, float] = (0.6, 0.2)
) -> DataSet:
    """A data set made of one pool of examples, which is split by class and from a fixed seed.

    Args:
        shares: the shares of train and val; the rest is test.
    """
    indices = stratified(labels, [*shares, 1 - sum(shares)])
    train, val, test = (Part(images[i], labels[i]) for i in indices)
    return DataSet(name, classes, train, val, test)


def numbered_classes(name: str, highest: int) -> tuple[str, ...]:
    """The class names of a data set that has only numbers for them: "0" to `highest`.

    Raises:
        BadInput: the number is too high for a class.

    >>> numbered_classes("npz:digits.npz", 2)
    ('0', '1', '2')
    """
    if highest >= _MOST_CLASSES:
        raise BadInput(
            f"{name!r} has the label {highest}",
            f"labels are the numbers of classes from 0, and at most {_MOST_CLASSES:,} classes are read",
            "Number the classes from 0.",
        )
    return tuple(map(str, range(highest + 1)))


def stratified(labels: Tensor, shares: list[float]) -> list[Tensor]:
    """Split the indices of `labels` into shares that all have the same proportions of classes.

    The order is random but fixed by a seed. Shares that sum to less than 1 leave examples out.
    """
    generator = torch.Generator().manual_seed(_SPLIT_SEED)
    shuffled = torch.randperm(len(labels), generator=generator)
    shuffled_labels = labels[shuffled]
    # The rank of each example within its class, scaled to (0, 1). Examples sorted by it can be cut anywhere: each piece
    # has its proportion of every class, and the sizes of the pieces are exact to one example.
    rank = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        of_class = (shuffled_labels == label).nonzero().flatten()
        rank[of_class] = (torch.arange(len(of_class), dtype=torch.float64) + 0.5) / len(of_class)
    order = shuffled[rank.argsort(stable=True)]
    ends = [round(len(labels) * sum(shares[: i + 1])) for i in range(len(shares))]
    return [order[start:end] for start, end in zip([0, *ends], ends, strict=False)]
