"""columns.json: what lists of a zoo show of each checkpoint, by columns, so that a large zoo is listed without reading its index.

The file is written by `finalize`. It holds the SHA-256 of the index that it was made from, and does not count for any other:
an index that was changed since, or was written by an earlier version, is read itself. So a crash between the two files is
harmless. To list 50,000 checkpoints takes a quarter of a second, most of which is to hash the index and to start Python.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from popgen.json_text import json_text, parse_json

if TYPE_CHECKING:
    from popgen.zoo.record import Checkpoint

_FILE, _INDEX = "columns.json", "index.jsonl"
_FORMAT = 1


@dataclass(frozen=True)
class Columns:
    """One entry for each checkpoint, in the order in which lists show them: by architecture, data set and id, numbers by value.

    `lines` are the numbers of their lines in the index, from 0, and `scores` their recorded test scores, None if unknown.
    """

    ids: list[str]
    lineages: list[str]
    archs: list[str]
    data: list[str]
    seeds: list[int | None]
    held_out: list[bool]
    scores: list[float | None]
    lines: list[int]

    @classmethod
    def of(cls, records: list[Checkpoint]) -> Columns:
        """The columns of records in the order of the index."""
        order = sorted(range(len(records)), key=lambda i: _natural(records[i]))
        shown = [records[i] for i in order]
        return cls(
            ids=[r.id for r in shown],
            lineages=[r.lineage for r in shown],
            archs=[r.arch for r in shown],
            data=[r.data for r in shown],
            seeds=[r.seed for r in shown],
            held_out=[r.held_out for r in shown],
            scores=[r.score("test") for r in shown],
            lines=order,
        )

    def select(self, arch: str | None, data: str | None) -> list[int]:
        """Positions of the checkpoints of an architecture and a data set; None stands for all."""
        pairs = enumerate(zip(self.archs, self.data, strict=True))
        return [i for i, (a, d) in pairs if arch in (None, a) and data in (None, d)]


def write_columns(folder: Path, records: list[Checkpoint]) -> None:
    """Write the file for the index as it is now, whose records are given."""
    from popgen.files import write_text  # noqa: PLC0415 - it imports torch, which readers need not

    content = {"format": _FORMAT, "index_sha256": _index_sha256(folder), **asdict(Columns.of(records))}
    write_text(folder / _FILE, json_text(content) + "\n")


def read_columns(folder: Path) -> Columns | None:
    """The columns, or None if there is no such file, or it was made from another state of the index."""
    try:
        content = parse_json((folder / _FILE).read_bytes())
        if content["format"] != _FORMAT or content["index_sha256"] != _index_sha256(folder):
            return None
        columns = Columns(**{field.name: content[field.name] for field in fields(Columns)})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    lengths = {len(getattr(columns, field.name)) for field in fields(Columns)}
    return columns if len(lengths) == 1 else None


def read_record(folder: Path, columns: Columns, checkpoint_id: str) -> dict[str, Any]:
    """The record of a checkpoint as JSON, from its line in the index.

    Raises:
        ValueError: there is no checkpoint with that id.
    """
    number = columns.lines[columns.ids.index(checkpoint_id)]
    with (folder / _INDEX).open("rb") as file:
        line = next(line for i, line in enumerate(file) if i == number)
    found: dict[str, Any] = parse_json(line)
    return found


def _index_sha256(folder: Path) -> str:
    with (folder / _INDEX).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _natural(record: Checkpoint) -> list[tuple[int, str]]:
    """A key that puts rotate:15 before rotate:105."""
    parts = re.split(r"(\d+)", f"{record.arch} {record.data} {record.id}")
    return [(int(part) if part.isdecimal() else -1, part) for part in parts]
