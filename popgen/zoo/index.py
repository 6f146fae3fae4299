"""Reads and writes the text files of a zoo: zoo.json, and index.jsonl, which has one Checkpoint on each line.

zoo.json is written once; new checkpoints are appended to index.jsonl.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from popgen import __version__, files
from popgen.errors import BrokenFile
from popgen.json_text import parse_json
from popgen.refs import inside
from popgen.zoo.record import Checkpoint

FORMAT, ARCHIVE_FORMAT = 1, 2  # an archive is a zoo with coded shards
_RESTORE = "Restore it, or build the zoo again."


def read_info(path: Path) -> dict[str, Any]:
    """The content of zoo.json.

    Raises:
        BrokenFile: the file is not JSON, or has a format that this version does not read.
    """
    try:
        info = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BrokenFile(f"{path} cannot be read", str(error), _RESTORE) from error
    if not isinstance(info, dict) or info.get("format") not in (FORMAT, ARCHIVE_FORMAT) or "name" not in info:
        found_format = info.get("format") if isinstance(info, dict) else type(info).__name__
        raise BrokenFile(
            f"{path} does not have the format of a zoo that popgen {__version__} reads",
            f"format {found_format!r}, needed {FORMAT}",
            "Update popgen.",
        )
    if info["format"] == ARCHIVE_FORMAT and not isinstance(info.get("archive"), dict):
        raise BrokenFile(f"{path} does not say how the archive was made", "it has no entry `archive`", _RESTORE)
    return info


def read_index(path: Path) -> tuple[list[Checkpoint], int]:
    """The records, and the size of their lines in bytes; an incomplete last line is left out of both.

    Raises:
        BrokenFile: the file cannot be read, or a complete line is not a record.
        BadInput: a record names a shard outside the zoo's folder.
    """
    try:
        *lines, incomplete = (content := path.read_bytes()).split(b"\n")
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
    return records, len(content) - len(incomplete)


def write_index(path: Path, records: Iterable[Checkpoint]) -> int:
    """Replace the whole index; returns its size in bytes."""
    return files.write_text(path, _lines(records))


def append_index(path: Path, records: Iterable[Checkpoint]) -> int:
    """Append the lines of `records` and wait until they are on the disk; returns their size in bytes."""
    return files.append_text(path, _lines(records))


def _lines(records: Iterable[Checkpoint]) -> str:
    return "".join(r.model_dump_json() + "\n" for r in records)
