"""Lists the checkpoints of a file, a folder or an index CSV, and says what of a folder or an index is passed over."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from popgen.errors import BadInput, NotFound, PopgenError
from popgen.refs import inside
from popgen.tables import read_csv
from popgen.zoo.imports.adapters import complete_adapter, is_adapter_folder
from popgen.zoo.imports.causes import os_cause
from popgen.zoo.imports.checkpoint import ForeignCheckpoint
from popgen.zoo.imports.classifiers import complete_classifier, is_classifier_folder
from popgen.zoo.imports.loading import INDEX_SUFFIXES
from popgen.zoo.imports.tensors import SUFFIXES

_METRICS = ("accuracy", "loss")  # first words of the columns that become metrics
# Each column of an index CSV and the field of ForeignCheckpoint that it fills. Columns whose names begin with
# `accuracy` or `loss` become metrics. Case does not matter, and spaces and hyphens are underscores.
_COLUMNS = {
    "file": "path",
    "architecture": "arch",
    "arch": "arch",
    "dataset": "data",
    "data_set": "data",
    "data": "data",
    "lineage": "lineage",
    "parent": "parent",
    "source": "source",
    "source_repository": "source",
    "licence": "licence",
    "license": "licence",
    "key": "key",
    "use": "use",
    "name": "name",
    "sha256": "sha256",
}
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.\w+$")
_SHOWN_SUFFIXES = 5


def list_checkpoints(
    path: Path, default: ForeignCheckpoint, on_skip: Callable[[str], None] = lambda _: None
) -> list[ForeignCheckpoint]:
    """The checkpoints of a file, a folder or an index CSV; fields that the CSV does not give are those of `default`.

    Args:
        on_skip: called with one line of text on what a folder or an index has beside them.

    Raises:
        NotFound: the folder holds no checkpoints.
        BrokenFile: the folder or the CSV cannot be read.
        PopgenError: an adapter cannot be read, as `complete_adapter`.
        BadInput: the CSV has no column `file`, names a file outside its folder, or has a metric that is not a number.
    """
    listed = _listed(path, default, on_skip)
    return [_completed(one) for one in listed]


def _completed(one: ForeignCheckpoint) -> ForeignCheckpoint:
    """The checkpoint, with what its own folder says where it is one."""
    if is_adapter_folder(one.path):
        return complete_adapter(one)
    return complete_classifier(one) if is_classifier_folder(one.path) else one


def _listed(path: Path, default: ForeignCheckpoint, on_skip: Callable[[str], None]) -> list[ForeignCheckpoint]:
    if is_adapter_folder(path) or is_classifier_folder(path):
        return [replace(default, path=path)]
    if path.is_dir():
        return [replace(default, path=p) for p in _list_folder(path, on_skip)]
    if path.suffix.lower() in (".csv", ".tsv"):
        return _list_index(path, default, on_skip)
    if path.suffix.lower() in (".xlsx", ".xls", ".ods"):
        what, why = f"{path} is a workbook", "an index is a CSV"
        raise BadInput(what, why, "Save its sheet as CSV (UTF-8), and import that.")
    index = next(
        (p for suffix in INDEX_SUFFIXES if (p := path.with_name(_SHARD.sub("", path.name) + suffix)).is_file()), None
    )
    if index is not None and _SHARD.search(path.name):
        raise BadInput(f"{path} is one of several shards", f"{index.name} names all of them", f"Import {index}.")
    return [replace(default, path=path)]


def _list_folder(folder: Path, on_skip: Callable[[str], None]) -> list[Path]:
    """The checkpoints in a folder, sorted by name; what else is in it is counted by reason.

    Raises:
        NotFound: there are none.
        BrokenFile: the folder cannot be read.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise os_cause(folder, error) from error
    stems = {p.name[: -len(suffix)] for p in entries for suffix in INDEX_SUFFIXES if p.name.lower().endswith(suffix)}
    reasons = {p: _reason(p, stems) for p in entries}
    counts = Counter(reason for reason in reasons.values() if reason)
    passed_over = "; ".join(f"{count} {reason}" for reason, count in counts.items())
    taken = [p for p, reason in reasons.items() if not reason]
    if not taken:
        why = f"looked for {', '.join(SUFFIXES)}" + (f"; passed over: {passed_over}" if passed_over else "")
        raise NotFound(f"{folder} holds no checkpoints", why, "Name the folder that holds the files.")
    if passed_over:
        on_skip(f"{folder}: {len(taken)} taken; passed over: {passed_over}")
    return taken


def _reason(path: Path, index_stems: set[str]) -> str:
    """Why a folder's entry is passed over, in words that follow a count; "" for a checkpoint."""
    name = path.name.lower()
    if name.startswith("._") or name == "__macosx":
        return "of macOS (._*, __MACOSX)"
    if name.startswith("."):
        return "hidden"
    if path.is_dir():
        return "" if is_adapter_folder(path) or is_classifier_folder(path) else "sub-folders"
    if name.endswith(INDEX_SUFFIXES):
        return ""
    if _SHARD.search(name) and _SHARD.sub("", path.name) in index_stems:
        return "shards of an index"
    if name.endswith(SUFFIXES):
        return "" if path.is_file() else "links to files that are not there"
    return f"{path.suffix or 'without a suffix'}"


def _list_index(path: Path, default: ForeignCheckpoint, on_skip: Callable[[str], None]) -> list[ForeignCheckpoint]:
    """The checkpoints that a CSV describes, one a row; rows without any text are left out.

    Raises:
        BrokenFile, BadInput: as `list_checkpoints`.
    """
    columns, rows = read_csv(path)
    if "file" not in columns:
        raise BadInput(
            f"{path} has no column 'file'",
            f"it has {', '.join(columns) or 'nothing'}",
            f"Columns: {', '.join(_COLUMNS)}, accuracy... (separated by commas, semicolons or tabs)",
        )
    names = {column: re.sub(r"[\s-]+", "_", column) for column in columns}
    unread = [c for c, name in names.items() if c and name not in _COLUMNS and not name.startswith(_METRICS)]
    if unread:
        on_skip(f"{path}: columns that are not read: {', '.join(unread)}")
    entries = [{names[column]: text for column, text in row.items() if text} for row in rows]
    if not entries:
        raise BadInput(f"{path} describes no checkpoints", "it has a header and no rows", "Add a row for each file.")
    return [_from_entry(entry, path, number, default) for number, entry in enumerate(entries, start=1)]


def _from_entry(entry: dict[str, str], index: Path, number: int, default: ForeignCheckpoint) -> ForeignCheckpoint:
    """The checkpoint that row `number` of the CSV `index` describes.

    Raises:
        BadInput: it names no file or one outside the folder, or a metric is not a number.
    """
    given = {_COLUMNS[column]: text for column, text in entry.items() if column in _COLUMNS}
    if "path" not in given:
        raise BadInput(f"{index}, row {number} names no file", f"it has {', '.join(entry)}", "Fill in 'file'.")
    if given.get("use", "ema") != "ema":
        raise BadInput(f"{index}, row {number}: use is {given['use']!r}", "it is ema or empty", "Correct the cell.")
    metrics = {}
    for column, text in entry.items():
        if column.startswith(_METRICS):
            metrics[column] = _metric(column, text, f"{index}: {column} of {entry['file']}")
    try:
        path = inside(index.parent, given.pop("path").replace("\\", "/"))
    except PopgenError:
        raise
    except (OSError, ValueError) as error:
        raise BadInput(f"{index}, row {number}: no file can have this name", str(error), "Correct the cell.") from error
    return replace(default, **given, path=path, metrics={**default.metrics, **metrics})  # type: ignore[arg-type]


def _metric(column: str, text: str, where: str) -> float:
    """The number in a cell: 91.5, 0.915, 91,5 or 91.5 %; an accuracy is 0 to 1.

    Raises:
        BadInput: it is not a number.
    """
    plain = text.removesuffix("%").strip()
    if plain.count(",") == 1 and "." not in plain:
        plain = plain.replace(",", ".")
    try:
        value = float(plain)
    except ValueError as error:
        raise BadInput(f"{where} is {text!r}", "a number was expected", "Correct the cell.") from error
    is_per_cent = text.endswith("%") or (column.startswith("accuracy") and value > 1)
    return value / 100 if is_per_cent else value
