"""Subsets of a data set, written behind its name as variants are: `digits/rotate:45/classes:3+5+8/shots:5`.

`classes:` keeps some classes in all splits, renumbered in the order given. `shots:` keeps the first K training images of each
class in an order that its name alone decides: the same images whatever other classes or variants the name has.
Validation and test splits keep all images of their classes.
"""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

from popgen.errors import BadInput, unknown_name

SUBSETS = ("classes", "shots")


def parse_shots(text: str) -> tuple[int, int]:
    """Images a class and the draw, of `shots:K` or `shots:K@DRAW`.

    Raises:
        BadInput: they are not whole numbers, or K is 0.

    >>> parse_shots("shots:5"), parse_shots("shots:1@7")
    ((5, 0), (1, 7))
    """
    count, at, draw = text.partition(":")[2].partition("@")
    if not count.isdecimal() or int(count) < 1 or (at and not draw.isdecimal()):
        raise BadInput(
            f"subset {text!r} is not a number of training images for each class",
            "it is 1 or more, and another draw of them stands behind an @",
            "For example shots:5, or shots:5@7.",
        )
    return int(count), int(draw or 0)


def check_subset(text: str) -> None:
    """Refuse a subset whose form is wrong, before the data set is read.

    Raises:
        BadInput: as `parse_shots`, or fewer than two classes, or one twice.
    """
    name, _, argument = text.partition(":")
    if name == "shots":
        parse_shots(text)
        return
    wanted = argument.split("+")
    if len(wanted) < 2 or "" in wanted or len(set(wanted)) < len(wanted):
        raise BadInput(
            f"subset {text!r} does not name two or more different classes",
            "classes are told apart, each is named once",
            "Give names or numbers with + between them, for example classes:3+5+8.",
        )


def class_rows(text: str, classes: tuple[str, ...], data: str) -> list[int]:
    """Which of `classes` are wanted, by name or else by index from 0, in the order given.

    Raises:
        NotFound: no such class.
        BadInput: a name and a number mean the same class.

    >>> class_rows("classes:cat+0", ("dog", "cat"), "pets")
    [1, 0]
    """
    rows = []
    for name in text.partition(":")[2].split("+"):
        if name in classes:
            rows.append(classes.index(name))
        elif name.isdecimal() and int(name) < len(classes):
            rows.append(int(name))
        else:
            todo = f"Or give its number, 0 to {len(classes) - 1}."
            raise unknown_name(f"class of {data!r}", name, classes, todo)
    if len(set(rows)) < len(rows):
        raise BadInput(f"{text!r} names a class of {data!r} twice, by name and by number", "", "Name it once.")
    return rows


def shot_rows(text: str, labels: Tensor, classes: tuple[str, ...], data: str) -> Tensor:
    """Row numbers of the training images that `shots:` keeps, class by class.

    Raises:
        BadInput: a class has fewer images.
    """
    count, draw = parse_shots(text)
    rows = []
    for label, name in enumerate(classes):
        index = (labels == label).nonzero().flatten()
        if len(index) < count:
            raise BadInput(
                f"{text!r}: class {name!r} of {data!r} has {len(index)} training images",
                f"{count} are asked for",
                "Ask for fewer.",
            )
        generator = torch.Generator().manual_seed(zlib.crc32(f"{draw}:{name}".encode()))
        rows.append(index[torch.randperm(len(index), generator=generator)[:count]])
    return torch.cat(rows)
