"""Encodes the label columns of tables as class indices: whole numbers, classes with names, or texts."""

from __future__ import annotations

from typing import Any

from popgen.data.dataset import numbered_classes
from popgen.data.sources.splits import PassedOver
from popgen.errors import BadInput

_TEXTS = ("string", "large_string", "string_view")  # the datasets library's types of texts
Rows = list[tuple[int, int]]  # rows of a table that are used, each with the index of its class


def is_label_type(kind: Any) -> bool:
    """Whether a column's type, one of the datasets library, can be a label: whole numbers or texts."""
    return is_text_type(kind) or str(getattr(kind, "dtype", "")).startswith(("int", "uint"))


def is_text_type(kind: Any) -> bool:
    """Whether a column's type, one of the datasets library, is that of texts."""
    return str(getattr(kind, "dtype", "")) in _TEXTS


def read_labels(
    name: str, tables: dict[str, Any], column: str, passed_over: dict[str, PassedOver]
) -> tuple[tuple[str, ...], dict[str, Rows]]:
    """Read the class names, and the rows of each split with their classes.

    Texts become classes in the order of their sorting. Classes are those of the first split, train; rows of another
    class are passed over, and are counted in `passed_over`.

    Args:
        name: the data set's name, for errors.
        tables: the table of each split, train first.
        column: the column of the labels.

    Raises:
        BadInput: a row has no label, or the splits name their classes differently.
    """
    values = {split: table.select_columns([column])[:][column] for split, table in tables.items()}
    for split, found in values.items():
        missing = [row for row, value in enumerate(found) if value is None or value == ""]
        if missing:
            raise BadInput(f"{name!r} has images without a label in {split}", f"row {missing[0]} has none", "")
    first = next(iter(tables))
    kind = tables[first].features[column]
    if getattr(kind, "dtype", "") in _TEXTS:
        classes = tuple(sorted(set(values[first])))
    else:
        values = {split: list(map(int, found)) for split, found in values.items()}
        negative = [split for split, found in values.items() if min(found, default=0) < 0]
        if negative:
            raise BadInput(f"{name!r} has images without a label in {negative[0]}", f"{column!r} is negative there", "")
        highest = max(max(found, default=0) for found in values.values())
        classes = _class_names(name, tables, column) or numbered_classes(name, highest)
    index_of = {value: i for i, value in enumerate(classes)} | {i: i for i in range(len(classes))}
    rows: dict[str, Rows] = {}
    for split, found in values.items():
        rows[split] = [(row, index_of[value]) for row, value in enumerate(found) if value in index_of]
        for value in found:
            if value not in index_of:
                passed_over[split].add("of classes that train does not have", str(value))
    return classes, rows


def _class_names(name: str, tables: dict[str, Any], column: str) -> tuple[str, ...] | None:
    """The class names that the label's type has, which must be the same in all splits, or None."""
    named = {split: getattr(table.features[column], "names", None) for split, table in tables.items()}
    (first, names), *others = named.items()
    for split, other in others:
        if other != names:
            raise BadInput(
                f"{name!r} names its classes differently in {first} and {split}",
                f"{_some(names)} and {_some(other)}",
                f"Give {column!r} the same ClassLabel in all splits.",
            )
    return None if names is None else tuple(names)


def _some(names: list[str] | None) -> str:
    return "numbers" if names is None else ", ".join(names[:5])
