"""The append-only record of a run: one JSON object a line, written before the search goes on.

A file may hold several searches; each record names its own under "search", and a `History` sees one of them. The first
record of a search is its header (settings and versions), all others are evaluations in the order in which they were
asked. A last line torn by a crash is cut off at opening. Python writes the shortest decimal that reads back as the same
float, so losses and coordinates round-trip exactly.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from ..errors import BrokenRecord, RunLocked
from .judge import Worth

SCHEMA = 2
SYNC_SECONDS = 0.1  # a power cut costs at most this much work; a killed process costs none


@dataclass(frozen=True)
class Record:
    """One evaluation, or one look of a race.

    `candidate` counts the candidates in ask order, `asked` those that were asked before this was recorded: with it the
    optimizer of an asynchronous search is rebuilt. `coordinates` is None for a seed, which is a row of the saved
    population. `share` of the examples was looked at (1 but in a race), at a `cost` in units of the budget's evaluations.

    `loss` is None, and `error` says why, where the evaluation failed; `values` are those of the objectives in a Pareto
    search. `elapsed` is the run's time in seconds, over all sessions, at which it was recorded; `seconds` its own.
    """

    index: int
    candidate: int
    asked: int
    batch: int
    phase: str
    origin: str
    coordinates: list[float] | None
    share: float
    cost: float
    loss: float | None
    values: list[float] | None
    metrics: dict[str, float | None]
    seconds: float
    elapsed: float
    error: str | None

    @property
    def worth(self) -> Worth | None:
        """What the optimizer is told: the values of several objectives, or the loss."""
        return self.loss if self.values is None else tuple(self.values)

    @property
    def full(self) -> bool:
        """Whether all examples were looked at."""
        return self.share == 1.0


class History:
    """The records of one search, open for appending and locked against other processes.

    Raises:
        RunLocked: another process has the file open.
        BrokenRecord: the file holds something else, or a newer schema.
    """

    def __init__(self, path: str | Path, key: str) -> None:
        self.path = Path(path)
        self.key = key
        self.header: dict[str, Any] | None = None
        self.records: list[Record] = []
        self._synced = 0.0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.path.with_name(self.path.name + ".lock"), self.path)
        try:
            self._file: BinaryIO = open(self.path, "a+b")  # noqa: SIM115 - held until close()
        except OSError:
            self._lock.close()
            raise
        try:
            _cut_torn_line(self._file)
            self._read()
        except BaseException:
            self.close()
            raise

    def begin(self, header: dict[str, Any]) -> None:
        """Write the header of a new search."""
        self._write({"header": header})
        self.header = header

    def append(self, record: Record) -> None:
        """Write one record. It is the system's when this returns, and on the disk if the last was longer ago."""
        body = asdict(record)
        self._write({name: body[name] for name in body if name != "metrics"} | {"metrics": _finite(record.metrics)})
        self.records.append(record)

    def close(self) -> None:
        """Write everything through to the disk, and give the file and its lock back."""
        self._sync()
        self._file.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, body: dict[str, Any]) -> None:
        line = json.dumps({"v": SCHEMA, "search": self.key} | body, allow_nan=False, separators=(",", ":"))
        self._file.write(line.encode() + b"\n")
        self._file.flush()  # now it survives the end of this process; after fsync, of the machine
        if time.monotonic() - self._synced >= SYNC_SECONDS:
            self._sync()

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def _read(self) -> None:
        self._file.seek(0)
        for number, line in enumerate(self._file, start=1):
            where = f"{self.path}, line {number}"
            entry = _parse(line, where)
            if entry["search"] != self.key:
                continue
            if "header" in entry:
                self.header = entry["header"]
                continue
            record = _record(entry, where)
            if self.header is None or record.index != len(self.records):
                raise BrokenRecord(
                    f"{where}: evaluation {record.index} stands where "
                    f"{'the header' if self.header is None else len(self.records)} should\n"
                    f"lines of the search {self.key!r} are missing or doubled\n"
                    "restore the file from a copy, or start a new search in another folder"
                )
            self.records.append(record)


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
        schema = entry["v"]
        entry["search"]
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenRecord(
            f"{where} is not a record of a search\n"
            f"{type(error).__name__}: {error}\n"
            "restore the file from a copy, or start a new search in another folder"
        ) from error
    if schema != SCHEMA:
        raise BrokenRecord(
            f"{where} has schema {schema}\n"
            f"this version reads schema {SCHEMA}\n"
            "resume with the version that wrote it, or start a new search in another folder"
        )
    return dict(entry)


def _record(entry: dict[str, Any], where: str) -> Record:
    body = {name: value for name, value in entry.items() if name not in ("v", "search")}
    try:
        return Record(**body)
    except TypeError as error:
        raise BrokenRecord(
            f"{where} has missing or unknown fields\n{error}\nresume with the version that wrote it"
        ) from error


def _finite(metrics: dict[str, float | None]) -> dict[str, float | None]:
    """JSON has no NaN and no infinity: such a metric is written as null."""
    return {name: value if value is not None and math.isfinite(value) else None for name, value in metrics.items()}


def _cut_torn_line(file: BinaryIO) -> None:
    file.seek(0)
    content = file.read()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        file.truncate(whole)
        os.fsync(file.fileno())


def _lock(lock_path: Path, path: Path) -> BinaryIO:
    file = open(lock_path, "ab")  # noqa: SIM115 - the lock lives as long as the file is open
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise RunLocked(
            f"{path} is being written by another search\n"
            f"{lock_path.name} is locked\n"
            "wait for it, stop it, or use another folder"
        ) from error
    return file
