"""Subsets of a data set, appended to its name as variants are: `digits/rotate:45/classes:3+5+8/shots:5`.

`classes:` keeps some classes in all splits and numbers them in the order given. `shots:` keeps K training examples of
each class. They are the first K of a random order that depends only on the class name and the number of the draw, so
that they are the same ones whatever other classes or variants the data set's name has. `shots:` does not change the
validation and test splits. `labels:` says that there are N labelled examples in all: they are drawn of the training split,
and validation is done on the same ones; the test split stays.
`blocks:` keeps the first K blocks of text in training and validation.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from popgen.data.names import SUBSETS
from popgen.errors import BadInput, unknown_name

__all__ = [
    "SUBSETS",
    "check_subset",
    "check_together",
    "class_indices",
    "label_indices",
    "parse_blocks",
    "parse_labels",
    "parse_shots",
    "shot_indices",
]


def parse_shots(text: str) -> tuple[int, int]:
    """Parse `shots:K` or `shots:K@DRAW` into the number of examples of each class and the number of the draw.

    Raises:
        BadInput: K or DRAW is not a whole number, or K is 0.

    >>> parse_shots("shots:5"), parse_shots("shots:1@7")
    ((5, 0), (1, 7))
    """
    return _count_and_draw(text, "is not a number of training examples for each class", 1, "shots:5")


def parse_labels(text: str) -> tuple[int, int]:
    """Parse `labels:N` or `labels:N@DRAW` into the number of all labelled examples and the number of the draw.

    Raises:
        BadInput: N or DRAW is not a whole number, or N is below 2.

    >>> parse_labels("labels:64"), parse_labels("labels:16@7")
    ((64, 0), (16, 7))
    """
    return _count_and_draw(text, "is not a number of labelled examples in all", 2, "labels:64")


def _count_and_draw(text: str, why: str, fewest: int, example: str) -> tuple[int, int]:
    count, at, draw = text.partition(":")[2].partition("@")
    if not count.isdecimal() or int(count) < fewest or (at and not draw.isdecimal()):
        raise BadInput(
            f"subset {text!r} {why}",
            f"it is {fewest} or more; a number behind an @ draws other examples",
            f"For example {example}, or {example}@7.",
        )
    return int(count), int(draw or 0)


def parse_blocks(text: str) -> int:
    """Parse `blocks:K` into the number of blocks.

    Raises:
        BadInput: K is not a whole number from 1.

    >>> parse_blocks("blocks:16")
    16
    """
    count = text.partition(":")[2]
    if not count.isdecimal() or int(count) < 1:
        raise BadInput(f"subset {text!r} is not a number of blocks", "it is 1 or more", "For example blocks:16.")
    return int(count)


def check_subset(text: str) -> None:
    """Check the form of a subset; the data set need not be read for it.

    Raises:
        BadInput: `parse_shots` or `parse_blocks` refuses it, or it names fewer than two classes or a class twice.
    """
    name, _, argument = text.partition(":")
    if name in ("shots", "labels"):
        (parse_shots if name == "shots" else parse_labels)(text)
        return
    if name == "blocks":
        parse_blocks(text)
        return
    wanted = argument.split("+")
    if len(wanted) < 2 or "" in wanted or len(set(wanted)) < len(wanted):
        raise BadInput(
            f"subset {text!r} does not name two or more different classes",
            "a classifier needs at least two classes, and each is named once",
            "Give names or numbers with + between them, for example classes:3+5+8.",
        )


def check_together(texts: Sequence[str]) -> None:
    """Refuse subsets that both say how many examples are labelled.

    Raises:
        BadInput: there are several of `shots:` and `labels:`.
    """
    counts = [text for text in texts if text.partition(":")[0] in ("shots", "labels")]
    if len(counts) > 1:
        raise BadInput(f"{' and '.join(map(repr, counts))} both say how many examples are labelled", "", "Give one.")


def class_indices(text: str, classes: tuple[str, ...], data: str) -> list[int]:
    """Indices of the classes that a `classes:` subset names, in its order.

    A class is given by its name, or by its index from 0 where no class has that name.

    Raises:
        NotFound: there is no such class.
        BadInput: a name and a number stand for the same class, or several classes have the name.

    >>> class_indices("classes:cat+0", ("dog", "cat"), "pets")
    [1, 0]
    """
    indices = []
    for name in text.partition(":")[2].split("+"):
        if classes.count(name) > 1:
            numbers = [str(i) for i, known in enumerate(classes) if known == name]
            raise BadInput(
                f"{text!r}: several classes of {data!r} are called {name!r}",
                f"they have the numbers {', '.join(numbers)}",
                "Give one by its number.",
            )
        if name in classes:
            indices.append(classes.index(name))
        elif name.isdecimal() and int(name) < len(classes):
            indices.append(int(name))
        else:
            todo = f"Or give its number, 0 to {len(classes) - 1}."
            raise unknown_name(f"class of {data!r}", name, classes, todo)
    if len(set(indices)) < len(indices):
        raise BadInput(f"{text!r} names a class of {data!r} twice, by name and by number", "", "Name it once.")
    return indices


def shot_indices(text: str, labels: Tensor, classes: tuple[str, ...], data: str) -> Tensor:
    """Indices of the training examples that a `shots:` subset keeps, class by class.

    Args:
        labels: the class index of each training example, shape (n,).

    Raises:
        BadInput: a class has fewer than K training examples.
    """
    count, draw = parse_shots(text)
    kept = []
    for label, name in enumerate(classes):
        index = (labels == label).nonzero().flatten()
        if len(index) < count:
            raise BadInput(
                f"{text!r}: class {name!r} of {data!r} has {len(index)} training examples",
                f"{count} are asked for",
                "Ask for fewer.",
            )
        kept.append(index[_random_order(len(index), draw, name)[:count]])
    return torch.cat(kept)


def label_indices(text: str, labels: Tensor, classes: tuple[str, ...], data: str) -> Tensor:
    """Indices of the training examples that a `labels:` subset keeps, (N,).

    One example of each class comes first; then classes are in proportion. The first N of this order are kept, so that those
    of `labels:16` are among those of `labels:64`.

    Args:
        labels: the class index of each training example, shape (n,).

    Raises:
        BadInput: there are fewer training examples than N, or N is below the number of classes.
    """
    count, draw = parse_labels(text)
    present = [label for label in range(len(classes)) if bool((labels == label).any())]
    if not len(present) <= count <= len(labels):
        raise BadInput(
            f"{text!r} does not fit {data!r}",
            f"it has {len(labels)} training examples of {len(present)} classes, and one of each class is the least",
            f"Ask for {len(present)} to {len(labels)}.",
        )
    index, turn = torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.float64)
    for label in present:
        own = (labels == label).nonzero().flatten()
        own = own[_random_order(len(own), draw, classes[label])]
        share = (torch.arange(len(own), dtype=torch.float64) + 0.5) / len(own)
        share[0] = 0  # the first of each class goes before all others
        index, turn = torch.cat([index, own]), torch.cat([turn, share])
    return index[turn.argsort(stable=True)[:count]]


def _random_order(count: int, draw: int, name: str) -> Tensor:
    """A random order (count,) that depends on the class name and the number of the draw alone."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{draw}:{name}".encode()))
    return torch.randperm(count, generator=generator)
