"""Reads and writes index.jsonl, which has one Checkpoint on each line; new checkpoints are appended."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from popgen import files
from popgen.errors import BrokenFile
from popgen.refs import inside
from popgen.zoo.info import RESTORE
from popgen.zoo.record import Checkpoint


def read_index(path: Path) -> tuple[list[Checkpoint], int]:
    """The records, and the size of their lines in bytes; an incomplete last line is left out of both.

    Raises:
        BrokenFile: the file cannot be read, or a complete line is not a record.
        BadInput: a record names a shard outside the zoo's folder.
    """
    try:
        *lines, incomplete = (content := path.read_bytes()).split(b"\n")
    except OSError as error:
        raise BrokenFile(f"{path} cannot be read", str(error), RESTORE) from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(Checkpoint.model_validate_json(line))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            why = ": ".join([*map(str, first["loc"]), first["msg"]])
            what = f"{path}, line {number} is not a checkpoint's record"
            raise BrokenFile(what, why, "Restore the file, or remove that line.") from error
    for shard in {r.shard for r in records}:
        inside(path.parent, shard)
    return records, len(content) - len(incomplete)


def write_index(path: Path, records: Iterable[Checkpoint]) -> int:
    """Replace the whole index; returns its size in bytes."""
    return files.write_text(path, _lines(records))


def append_index(path: Path, records: Iterable[Checkpoint]) -> int:
    """Append the lines of `records` and wait until they are on the disk; returns their size in bytes."""
    return files.append_text(path, _lines(records))


def _lines(records: Iterable[Checkpoint]) -> str:
    return "".join(r.model_dump_json() + "\n" for r in records)
