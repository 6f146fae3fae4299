"""Encodes the labels of a table of texts as class indices: names in sorted order, whole numbers by their value."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from popgen.data.sources.splits import PassedOver
from popgen.data.text.make import Example
from popgen.errors import BadInput

_NUMBER = re.compile(r"[+-]?\d{1,18}")


@dataclass(frozen=True)
class Row:
    """A row of a table: its text or texts, its label as it stands there, and what names it in remarks."""

    text: str | None
    second: str | None
    label: Any
    where: str


def encode_labels(
    name: str,
    column: str,
    rows: dict[str, list[Row]],
    passed_over: dict[str, PassedOver],
    names: Sequence[str] | None = None,
) -> tuple[tuple[str, ...], dict[str, list[Example]]]:
    """The class names, and the examples of each split with the indices of their classes.

    Classes are those of the first split, train. Rows without a label, and those of other classes, are counted in `passed_over`.

    Args:
        name: the data set's name, for errors.
        column: the column of the labels, for errors.
        names: the classes in their order, where it is known.

    Raises:
        BadInput: a label is neither a text nor a whole number, or the first split has none.
    """
    labels = {split: [_class_name(name, column, row) for row in own] for split, own in rows.items()}
    first = next(iter(rows))
    found = {label for label in labels[first] if label is not None}
    classes = tuple(names) if names is not None else _sorted(found)
    if not found:
        where = "" if first == "all" else f" in {first}"
        raise BadInput(f"{name!r} has no labels{where}", f"column {column!r} is empty", "Fill it.")
    index_of = {label: index for index, label in enumerate(classes)}
    examples: dict[str, list[Example]] = {split: [] for split in rows}
    for split, own in rows.items():
        for row, label in zip(own, labels[split], strict=True):
            if label is None:
                passed_over[split].add("without a label", row.where)
            elif label not in index_of:
                passed_over[split].add("of classes that train does not have", label)
            else:
                examples[split].append(Example(row.text, row.second, index_of[label], row.where))
    return classes, examples


def _class_name(name: str, column: str, row: Row) -> str | None:
    """The class name that a label stands for; None for a label that is not there."""
    label = row.label
    if isinstance(label, float) and math.isnan(label):
        return None
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if label is None or isinstance(label, (str, bool, int)):
        return str(label).strip() or None if label is not None else None
    raise BadInput(
        f"{row.where} of {name!r} has the label {label!r} in {column!r}",
        "a class is a text or a whole number",
        "Give each row the name of its class.",
    )


def _sorted(labels: set[str]) -> tuple[str, ...]:
    """Whole numbers by their value, else texts in their order."""
    return tuple(sorted(labels, key=int) if all(map(_NUMBER.fullmatch, labels)) else sorted(labels))
