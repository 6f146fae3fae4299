"""Reads `text:FILE`, a table of texts with labels, or `text:FOLDER` with such a table for each split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from popgen.data.dataset import SPLITS, DataSet
from popgen.data.sources.splits import PassedOver, name_splits, split_of
from popgen.data.text.columns import Columns, find_columns
from popgen.data.text.labels import Row, encode_labels
from popgen.data.text.make import make_texts
from popgen.data.text.table import SUFFIXES, Table, check_suffix, read_table, stem_of, suffix_of
from popgen.data.text.tasks import read_task
from popgen.errors import BadInput


def check_text(name: str, path: Path) -> None:
    """Refuse a file that is no table by its name, and a folder without a table of the training split.

    Raises:
        BadInput: what is expected instead.
    """
    for file in text_files(name, path).values():
        check_suffix(file)


def text_files(name: str, path: Path) -> dict[str, Path]:
    """The tables that a data set is read from, by split; a file has the key `all`.

    Raises:
        BadInput: a folder has no table called train, or two that mean one split.
    """
    if not path.is_dir():
        return {"all": path}
    files = {stem_of(file): file for file in sorted(path.iterdir()) if file.is_file() and suffix_of(file)}
    own = name_splits(name, files)
    if "train" not in own:
        raise BadInput(
            f"{path} has no table called train",
            f"it has {', '.join(file.name for file in files.values()) or 'no tables'}",
            f"Name one file, or call them train, val and test with one of {', '.join(SUFFIXES)}.",
        )
    return {split: files[own[split]] for split in SPLITS if split in own}


def load_text(name: str, path: Path) -> DataSet:
    """Load a data set of texts from a table, or from a folder with the tables train, val and test.

    Splits are those of the column `split`, or of the files of a folder; others are cut here (see
    `popgen.data.dataset.from_parts`). Rows without a text or label, and of classes that train does not have, are left out and
    counted. `tasks.json` may describe the task (see `popgen.data.text.tasks`).

    Raises:
        BrokenFile: a file cannot be read.
        BadInput: columns are missing, a cell does not fit, a split has no texts or an unknown name, or `tasks.json` does not fit.
    """
    task = read_task(path)
    rows: dict[str, list[Row]] = {}
    remarks: tuple[str, ...] = ()
    for split, file in text_files(name, path).items():
        table = read_table(file)
        columns = find_columns(f"text:{file}", list(table), _text_columns(table))
        read = _rows(table, columns)
        rows |= (
            {split: read} if split != "all" or columns.split is None else _by_split(file, table[columns.split], read)
        )
        remarks = tuple(dict.fromkeys((*remarks, *columns.remarks)))
    passed_over = {split: PassedOver() for split in rows}
    classes, examples = encode_labels(name, columns.label, rows, passed_over)
    data = make_texts(name, classes, examples, passed_over, task)
    return replace(data, remarks=(*remarks, *data.remarks))


def _text_columns(table: Table) -> list[str]:
    """The columns that hold texts alone, where they hold anything."""
    return [key for key, values in table.items() if all(value is None or isinstance(value, str) for value in values)]


def _rows(table: Table, columns: Columns) -> list[Row]:
    seconds: list[Any] = [None] * len(table[columns.text]) if columns.second is None else table[columns.second]
    cells = zip(table[columns.text], seconds, table[columns.label], strict=True)
    return [Row(text, second, label, f"row {number}") for number, (text, second, label) in enumerate(cells, 1)]


def _by_split(file: Path, named: list[Any], rows: list[Row]) -> dict[str, list[Row]]:
    """The rows of each split that a column names.

    Raises:
        BadInput: a name is not that of a split, or none is that of train.
    """
    found: dict[str, list[Row]] = {}
    for value, row in zip(named, rows, strict=True):
        split = split_of(value) if isinstance(value, str) else None
        if split is None:
            raise BadInput(
                f"{row.where} of {file} has the split {value!r}",
                "known are train, val (or validation) and test",
                "Correct it, leave the row out, or leave the column `split` out, and splits are cut here.",
            )
        found.setdefault(split, []).append(row)
    if "train" not in found:
        raise BadInput(f"{file} has no rows of train", f"its column `split` has {', '.join(found)}", "Add them.")
    return {split: found[split] for split in SPLITS if split in found}
