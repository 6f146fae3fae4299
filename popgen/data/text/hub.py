"""Reads texts and labels from tables of the Hugging Face datasets library."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from popgen.data.dataset import DataSet
from popgen.data.sources.labels import is_label_type, is_text_type
from popgen.data.sources.splits import PassedOver
from popgen.data.text.columns import find_columns, has_texts
from popgen.data.text.labels import Row, encode_labels
from popgen.data.text.make import make_texts
from popgen.data.text.tasks import TextTask, read_task
from popgen.errors import BadInput, NotFound


def holds_texts(features: Any, label: str | None) -> bool:
    """Whether a table without images has a column of texts, beside that of its labels, that is known by its name."""
    return has_texts(_text_columns(features), label)


def load_hub_texts(name: str, tables: dict[str, Any], label: str | None, folder: Path | None) -> DataSet:
    """Make a data set of the texts of tables.

    Labels are in the column that is given, else in the one of type ClassLabel, else in one that is known by its name. A split
    without any labels, as some benchmarks publish their test split, is not used. Other rows without a text or label, and those
    of classes that train does not have, are left out and counted.

    Args:
        tables: the table of each split, train first.
        folder: where `tasks.json` may lie, for a data set that is in a folder.

    Raises:
        NotFound: there is no such column.
        BadInput: there is no column of labels, a label is neither a text nor a whole number, a split has no texts, or
            `tasks.json` does not fit.
        BrokenFile: `tasks.json` cannot be read.
    """
    features = next(iter(tables.values())).features
    if label is not None and label not in features:
        raise NotFound(f"{name!r} has no column {label!r}", f"it has {', '.join(features)}", "Name one of them.")
    if label is not None and not is_label_type(features[label]):
        why = f"it holds {features[label].dtype}" if hasattr(features[label], "dtype") else "a class is one value"
        raise BadInput(f"column {label!r} of {name!r} does not hold whole numbers or texts", why, "Name another one.")
    typed = [key for key, kind in features.items() if hasattr(kind, "names")]  # these are of type ClassLabel
    known = label or (typed[0] if len(typed) == 1 else None)
    columns = find_columns(name, list(features), _text_columns(features), known)
    used = [column for column in (columns.text, columns.second, columns.label) if column is not None]
    rows = {
        split: _rows(table.select_columns(used), columns.text, columns.second, columns.label)
        for split, table in tables.items()
    }
    first, *others = rows
    bare = [split for split in others if all(row.label is None for row in rows[split])]
    rows = {split: own for split, own in rows.items() if split not in bare}
    passed_over = {split: PassedOver() for split in rows}
    names = getattr(features[columns.label], "names", None)
    classes, examples = encode_labels(name, columns.label, rows, passed_over, names)
    task = TextTask() if folder is None else read_task(folder)
    data = make_texts(name, classes, examples, passed_over, task)
    said = (f"splits without labels that are not used: {', '.join(bare)}",) if bare else ()
    return replace(data, remarks=(*columns.remarks, *data.remarks, *said))


def _text_columns(features: Any) -> list[str]:
    return [key for key, kind in features.items() if is_text_type(kind)]


def _rows(table: Any, text: str, second: str | None, label: str) -> list[Row]:
    """The rows of a table; a class with a name has it as its label, and a negative number stands for none."""
    cells, names = table[:], getattr(table.features[label], "names", None)
    labels = cells[label]
    if names is not None:
        labels = [None if index is None or index < 0 else names[index] for index in labels]
    seconds = cells[second] if second is not None else [None] * len(labels)
    together = zip(cells[text], seconds, labels, strict=True)
    return [Row(one, other, label, f"row {number}") for number, (one, other, label) in enumerate(together)]
