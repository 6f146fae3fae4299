"""Reads tables of texts: JSON lines, comma- or tab-separated values, each also compressed by gzip, and parquet.

A tab-separated file has no quotes: a text cannot hold a tab or an end of line. A cell that stands in quotes altogether, as
spreadsheets write it, loses them.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from popgen.errors import BadInput, BrokenFile, Offline, brief

SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")
MOST_BYTES = 2 * 2**30  # the limit for the text of a file: a compressed one must not fill the memory
_SEPARATORS = ",;\t"

Table = dict[str, list[Any]]  # the values of each column; all columns have the same length


def suffix_of(path: Path) -> str:
    """The suffix that says how a file is read, without .gz; "" if it is none of SUFFIXES.

    >>> suffix_of(Path("a/mine.JSONL.gz")), suffix_of(Path("mine.txt"))
    ('.jsonl', '')
    """
    plain = path.name.lower().removesuffix(".gz")
    return next((suffix for suffix in SUFFIXES if plain.endswith(suffix)), "")


def stem_of(path: Path) -> str:
    """The name of a file without the suffixes that say how it is read.

    >>> stem_of(Path("a/mine.jsonl.gz")), stem_of(Path("a/folder.d"))
    ('mine', 'folder.d')
    """
    suffix = suffix_of(path)
    return path.name[: path.name.lower().rindex(suffix)] if suffix else path.name


def check_suffix(path: Path) -> None:
    """Refuse a file whose suffix says no way to read it.

    Raises:
        BadInput: the suffix is none of SUFFIXES, with or without .gz.
    """
    if not suffix_of(path) or path.name.lower().endswith(".parquet.gz"):
        raise BadInput(
            f"{path} is no table of texts by its name",
            f"it ends in none of {', '.join(SUFFIXES)}; all but .parquet may have .gz behind",
            "Rename it to what it is, or convert it.",
        )


def read_table(path: Path) -> Table:
    """Read the columns of a file. Cells that a row of JSON lines does not have are None.

    Raises:
        BadInput: as `check_suffix`, or the file is too large.
        BrokenFile: the file cannot be read, is not UTF-8, or a row does not fit.
        Offline: a parquet file needs the pyarrow library, which is not installed.
    """
    check_suffix(path)
    suffix = suffix_of(path)
    if suffix == ".parquet":
        return _read_parquet(path)
    try:
        with _opened(path) as stream:
            lines = _counted(path, stream)
            return _read_json_lines(path, lines) if suffix == ".jsonl" else _read_separated(path, lines, suffix)
    except UnicodeDecodeError as error:
        raise BrokenFile(f"{path} is not UTF-8", brief(error), "Save it as UTF-8.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise BrokenFile(f"{path} cannot be read", brief(error), "Put the file there again.") from error
    except csv.Error as error:
        raise BrokenFile(
            f"{path} is no CSV", brief(error), "Write it with Python's csv module, or as .jsonl."
        ) from error


def _opened(path: Path) -> Any:
    """The file as a stream of text; a byte-order mark is passed over."""
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _counted(path: Path, lines: Iterable[str]) -> Iterator[str]:
    """The lines of a file that is not too large."""
    total = 0
    for line in lines:
        total += len(line)
        if total > MOST_BYTES:
            raise BadInput(f"{path} holds more than {MOST_BYTES / 2**30:.0f} GiB of text", "", "Take fewer rows.")
        yield line


def _read_json_lines(path: Path, lines: Iterable[str]) -> Table:
    table: Table = {}
    count = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _broken_row(path, number, brief(error)) from error
        if not isinstance(row, dict):
            raise _broken_row(path, number, f"it is a {type(row).__name__}, and must be an object {{...}}")
        for key in row:
            table.setdefault(key, [None] * count)
        for key, column in table.items():
            column.append(row.get(key))
        count += 1
    return table


def _read_separated(path: Path, lines: Iterator[str], suffix: str) -> Table:
    header = next(lines, "")
    separator = "\t" if suffix == ".tsv" else max(_SEPARATORS, key=header.count)
    if suffix == ".tsv":
        rows: Iterable[list[str]] = ([_unquoted(cell) for cell in _cells(line)] for line in lines)
        names = [_unquoted(cell) for cell in _cells(header)]
    else:
        rows = csv.reader(lines, delimiter=separator, strict=True)
        names = next(csv.reader([header], delimiter=separator), [])
    if len(set(names)) < len(names):
        raise BrokenFile(f"{path} has two columns of one name", f"its first row is {', '.join(names)}", "Rename one.")
    table: Table = {name: [] for name in names}
    for number, row in enumerate(rows, 1):
        if not row or row == [""]:
            continue
        if len(row) != len(names):
            raise _broken_row(path, number, f"it has {len(row)} cells, and there are {len(names)} columns", "row")
        for column, cell in zip(table.values(), row, strict=True):
            column.append(cell)
    return table


def _cells(line: str) -> list[str]:
    return line.rstrip("\r\n").split("\t")


def _unquoted(cell: str) -> str:
    """A cell without the quotes around all of it; quotes inside them are doubled.

    >>> _unquoted('"a, b"'), _unquoted('"a" b')
    ('a, b', '"a" b')
    """
    inside = cell[1:-1]
    is_quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inside.replace('""', "")
    return inside.replace('""', '"') if is_quoted else cell


def _read_parquet(path: Path) -> Table:
    if find_spec("pyarrow") is None:
        raise Offline(f"{path} cannot be read", "the pyarrow library is not installed", "pip install pyarrow")
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
        if size > MOST_BYTES:
            raise BadInput(f"{path} holds more than {MOST_BYTES / 2**30:.0f} GiB", "", "Take fewer rows or columns.")
        return dict(file.read().to_pydict())
    except (pyarrow.ArrowException, OSError) as error:
        raise BrokenFile(f"{path} is no readable parquet", brief(error), "Write it again.") from error


def _broken_row(path: Path, number: int, why: str, kind: str = "line") -> BrokenFile:
    return BrokenFile(f"{kind} {number} of {path} cannot be used", why, "Correct or remove it.")
