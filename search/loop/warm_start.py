"""Warm start: the best candidates of a finished search as seeds of another, which may have other settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BrokenRecord, SearchError
from ..optimizers.pareto import order
from .history import History, Record
from .plan import seeded_space
from .population import Population


def best_of(history_path: str | Path, key: str, population: Population, count: int) -> Population:
    """Return the `count` best vectors of a recorded search, best first, with the origins "best:INDEX" (of the record).

    These are fewer if fewer candidates were evaluated in full. With several objectives the order is that of the fronts.

    Args:
        key: name of the search in the history file.
        population: that from which the search was started; recorded coordinates are relative to it.

    Raises:
        SearchError: the file has no such search, the population is another one, or every evaluation failed.

    Example:
        >>> import tempfile
        >>> from search import SearchSettings, run_search
        >>> seeds = Population(np.random.default_rng(0).normal(size=(8, 4)), ["drawn"] * 8)
        >>> path = Path(tempfile.mkdtemp()) / "history.jsonl"
        >>> found = run_search(lambda v: float(v @ v), seeds, SearchSettings(), history_path=path, key="sphere")
        >>> bool((best_of(path, "sphere", seeds, 3).vectors[0] == found.best_vector).all())
        True
    """
    path = Path(history_path)
    header, records = _read_search(path, key, population)
    seeds = population.with_mean()
    full = [record for record in records if record.full and record.loss is not None]
    if not full:
        raise SearchError(
            f"{path}, search {key!r}, has no evaluation that succeeded\n"
            "there is no best one to start from\nstart from the population itself"
        )
    _check_records(records, seeds, path, key)
    seed_feedback = [record.feedback for record in records if record.phase == "seed"]
    space = None  # as long as there are only seeds
    if len(seed_feedback) == len(seeds):
        space = seeded_space(str(header["settings"].get("space")), seeds, seed_feedback)
    vectors, origins = [], []
    for record in _best_first(full)[:count]:
        if record.coordinates is None:
            vectors.append(seeds.vectors[record.candidate])
        elif space is None or len(record.coordinates) != space.dim:
            dim = "as yet unknown" if space is None else space.dim
            raise _damaged(path, key, record, f"{len(record.coordinates)} coordinates in a space of dimension {dim}")
        else:
            vectors.append(space.to_vector(np.array(record.coordinates)))
        origins.append(f"best:{record.index}")
    return Population(np.array(vectors), origins)


def _read_search(path: Path, key: str, population: Population) -> tuple[dict[str, Any], list[Record]]:
    """Read the header and the records of a search.

    Raises:
        SearchError: the file has no such search, or it was started from another population.
    """
    header, records = None, []
    if path.exists():
        with History(path, key) as history:
            header, records = history.header, history.records
    if header is None:
        raise SearchError(
            f"{path} has no search {key!r}\na warm start takes the best candidates of one\nname the history of a search"
        )
    if header.get("settings", {}).get("population") != population.digest():
        raise SearchError(
            f"{path}, search {key!r}, was started from another population\n"
            "its coordinates are relative to its own seeds\npass the population that was saved with it"
        )
    return header, records


def _check_records(records: list[Record], seeds: Population, path: Path, key: str) -> None:
    """Refuse records that no search from these seeds writes.

    Raises:
        BrokenRecord: a seed's number is not one of a seed, or the numbers of objectives differ.
    """
    sizes = [0 if record.values is None else len(record.values) for record in records if record.loss is not None]
    for record in records:
        if record.coordinates is None and not 0 <= record.candidate < len(seeds):
            raise _damaged(path, key, record, f"there are {len(seeds)} seeds, and it is of seed {record.candidate}")
        if record.loss is not None and (0 if record.values is None else len(record.values)) != sizes[0]:
            raise _damaged(path, key, record, f"others have {sizes[0]} objectives")


def _damaged(path: Path, key: str, record: Record, why: str) -> BrokenRecord:
    return BrokenRecord(
        f"{path}, search {key!r}: evaluation {record.index} is damaged\n{why}\nrestore the file from a copy"
    )


def _best_first(records: list[Record]) -> list[Record]:
    """Sort successful records by loss, or in a Pareto search by the order of their fronts."""
    if records[0].values is None:
        return sorted(records, key=lambda record: float("inf") if record.loss is None else record.loss)
    return [records[row] for row in order(np.array([record.values for record in records]))]
