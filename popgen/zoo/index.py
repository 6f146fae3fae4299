"""The text files of a zoo: zoo.json, which is written once, and index.jsonl, which has one Checkpoint on each line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from popgen import __version__, files
from popgen.errors import BrokenFile
from popgen.refs import inside
from popgen.zoo.record import Checkpoint

FORMAT = 1
_RESTORE = "Restore it, or build the zoo again."


def read_info(path: Path) -> dict[str, Any]:
    """Read zoo.json.

    Raises:
        BrokenFile: it is not JSON, or has a format that this version does not read.
    """
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BrokenFile(f"{path} cannot be read", str(error), _RESTORE) from error
    if not isinstance(info, dict) or info.get("format") != FORMAT or "name" not in info:
        received = info.get("format") if isinstance(info, dict) else type(info).__name__
        raise BrokenFile(
            f"{path} is not of a zoo that popgen {__version__} reads",
            f"format {received!r}, needed {FORMAT}",
            "Update popgen.",
        )
    return info


def read_index(path: Path) -> tuple[list[Checkpoint], int]:
    """Read the records; returns them and their size in bytes. Bytes after them are a line whose writing was cut off.

    Raises:
        BrokenFile: a complete line is not a record.
        BadInput: a record names a shard outside the zoo's folder.
    """
    try:
        *lines, tail = (content := path.read_bytes()).split(b"\n")
    except OSError as error:
        raise BrokenFile(f"{path} cannot be read", str(error), _RESTORE) from error
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
    return records, len(content) - len(tail)


def write_index(path: Path, records: Iterable[Checkpoint]) -> int:
    """Replace the index; returns its size in bytes."""
    return files.write_text(path, _lines(records))


def append_index(path: Path, records: Iterable[Checkpoint]) -> int:
    """Append lines and wait until they are on the disk; returns their size in bytes."""
    return files.append_text(path, _lines(records))


def _lines(records: Iterable[Checkpoint]) -> str:
    return "".join(r.model_dump_json() + "\n" for r in records)
