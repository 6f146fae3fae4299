"""The history of a search: an append-only file with one JSON object a line, each written before the search goes on.

A file may hold several searches. Every line names its search under "search", and a `History` sees the lines of one. The
first line of a search is its header (settings and versions); each of the others is an evaluation, in the order in which
they were recorded. A last line that a crash left incomplete is cut off when the file is opened. Losses and coordinates
are read back exactly, because Python writes the shortest decimal that reads back as the same float.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic reads that of typing from Python 3.12 on

from ..errors import BrokenRecord, RunLocked
from ..optimizers.feedback import Feedback

SCHEMA = 2
SYNC_SECONDS = 0.1  # least time between two writes through to the disk; a power cut costs about that much work


@dataclass(frozen=True)
class Record:
    """One evaluation, or one look of a race; the fields are the keys of a line.

    `index` counts the records, `candidate` the candidates in ask order. `asked` is the number of candidates that had
    been asked when this was recorded; the optimizer of an asynchronous search is rebuilt from it. `coordinates` (dim,)
    is None for a seed, whose vector is in the saved population. `share` is the share of the examples that was
    evaluated, 1 except in a race, and `cost` what it takes of the budget, in evaluations.

    If the evaluation failed, `loss` is None and `error` says why. `values` are those of the objectives in a Pareto
    search, otherwise None. `seconds` is the time of the evaluation, `elapsed` the time of the whole search over all
    sessions, in seconds, at which it was recorded.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

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
    def feedback(self) -> Feedback | None:
        """The feedback for the optimizer: the values in a Pareto search, else the loss; None for a failure."""
        return self.loss if self.values is None else tuple(self.values)

    @property
    def full(self) -> bool:
        """Whether all examples were evaluated."""
        return self.share == 1.0


class _Header(TypedDict, total=False):
    """What the first line of a search says: how it was started."""

    settings: dict[str, Any]
    versions: dict[str, str]


_RECORD, _HEADER = TypeAdapter(Record), TypeAdapter(_Header)
_JSON = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


class History:
    """The records of one search in a file, open for appending and locked against other processes.

    Raises:
        RunLocked: another process has the file open.
        BrokenRecord: a line is not a record of a search, has another schema, or is out of order.
    """

    def __init__(self, path: str | Path, key: str) -> None:
        self.path = Path(path)
        self.key = key
        self.header: dict[str, Any] | None = None
        self.records: list[Record] = []
        self._synced_at = 0.0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.path.with_name(self.path.name + ".lock"), self.path)
        try:
            self._file: BinaryIO = open(self.path, "a+b")  # noqa: SIM115 - held until close()
        except OSError:
            self._lock.close()
            raise
        try:
            _cut_incomplete_line(self._file)
            self._read()
        except BaseException:
            self.close()
            raise

    def begin(self, header: dict[str, Any]) -> None:
        """Write the header of a new search."""
        self._write({"header": header})
        self.header = header

    def append(self, record: Record) -> None:
        """Write one record. It then survives the end of this process.

        It is also written through to the disk if that was last done SYNC_SECONDS ago.
        """
        body = {name: value for name, value in vars(record).items() if name != "metrics"}
        self._write(body | {"metrics": _finite(record.metrics)})
        self.records.append(record)

    def close(self) -> None:
        """Write everything through to the disk, close the file and release its lock."""
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
        line = _JSON.encode({"v": SCHEMA, "search": self.key} | body)
        self._file.write(line.encode() + b"\n")
        self._file.flush()  # survives the end of this process; only fsync survives the end of the machine
        if time.monotonic() - self._synced_at >= SYNC_SECONDS:
            self._sync()

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced_at = time.monotonic()

    def _read(self) -> None:
        self._file.seek(0)
        for number, line in enumerate(self._file, start=1):
            where = f"{self.path}, line {number}"
            entry = _parse_line(line, where)
            if entry["search"] != self.key:
                continue
            if "header" in entry:
                self.header = _check_header(entry["header"], where)
                continue
            record = _make_record(entry, where)
            if self.header is None or record.index != len(self.records):
                raise BrokenRecord(
                    f"{where}: evaluation {record.index} stands where "
                    f"{'the header' if self.header is None else len(self.records)} should\n"
                    f"lines of the search {self.key!r} are missing or doubled\n"
                    "restore the file from a copy, or start a new search in another folder"
                )
            self.records.append(record)


def _parse_line(line: bytes, where: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
        schema = entry["v"]
        entry["search"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
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


def _make_record(entry: dict[str, Any], where: str) -> Record:
    body = {name: value for name, value in entry.items() if name not in ("v", "search")}
    try:
        return _RECORD.validate_python(body)
    except ValidationError as error:
        raise _misfit(error, where) from error


def _check_header(header: Any, where: str) -> dict[str, Any]:
    try:
        return dict(_HEADER.validate_python(header))
    except ValidationError as error:
        raise _misfit(error, where) from error


def _misfit(error: ValidationError, where: str) -> BrokenRecord:
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"])) or "header"
    return BrokenRecord(
        f"{where} has missing, unknown or damaged fields\n"
        f"{field}: {first['msg']}\n"
        "resume with the version that wrote it, or restore the file from a copy"
    )


def _finite(metrics: dict[str, float | None]) -> dict[str, float | None]:
    """Replace NaN and infinity by None: JSON has no numbers for them."""
    return {name: value if value is not None and math.isfinite(value) else None for name, value in metrics.items()}


def _cut_incomplete_line(file: BinaryIO) -> None:
    """Cut off what follows the last line break."""
    file.seek(0)
    content = file.read()
    complete = content.rfind(b"\n") + 1
    if complete < len(content):
        file.truncate(complete)
        os.fsync(file.fileno())


def _lock(lock_path: Path, path: Path) -> BinaryIO:
    """Lock the history at `path`; the lock is held until the returned file is closed."""
    file = open(lock_path, "ab")  # noqa: SIM115 - closing it would release the lock
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
