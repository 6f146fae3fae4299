"""The summary of a bench's cells: mean scores of every row, and its paired difference from the subject, with intervals and wins."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from popgen.bench.intervals import Interval, interval, verdict

ALL = "all"  # stands for all architectures together


@dataclass(frozen=True)
class Entry:
    """A row of one cell: scores in the unit of its task, what it cost, and the outcomes (n,) on the test examples."""

    row: str
    evaluations: int
    image_passes: int
    seconds: float
    val_score: float
    test_score: float
    val_optimism: float | None = None  # None where nothing was chosen by the validation score
    right: np.ndarray | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Cell:
    """The rows of an architecture on a data set with a seed."""

    arch: str
    data: str
    seed: int
    entries: Mapping[str, Entry]  # by row


@dataclass(frozen=True)
class Difference:
    """The subject less a row: the interval of the mean, and on how many architectures and data sets it wins, ties and loses."""

    mean: Interval
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class BenchRow:
    """A row over all cells of an architecture, or of all of them."""

    arch: str
    row: str
    cells: int
    image_passes: float  # means over the cells
    seconds: float
    val_score: float
    val_optimism: float | None  # mean over the cells that have one
    test: Interval
    difference: Difference | None  # None for the subject itself, and where no cell has both

    def to_json(self) -> dict[str, Any]:
        """The keys of results.json and --json; they are stable."""
        return asdict(self)


def summarise(cells: Sequence[Cell], rows: Sequence[str], subject: str) -> list[BenchRow]:
    """The rows of every architecture, and of all together where there are several; rows that no cell has are left out."""
    archs = list(dict.fromkeys(cell.arch for cell in cells))
    groups = {arch: [cell for cell in cells if cell.arch == arch] for arch in archs}
    if len(archs) > 1:
        groups[ALL] = list(cells)
    return [
        _summary(arch, row, having, subject)
        for arch, members in groups.items()
        for row in rows
        if (having := [cell for cell in members if row in cell.entries])
    ]


def _summary(arch: str, row: str, cells: Sequence[Cell], subject: str) -> BenchRow:
    mine = [cell.entries[row] for cell in cells]
    chosen = [one.val_optimism for one in mine if one.val_optimism is not None]
    return BenchRow(
        arch,
        row,
        len(cells),
        statistics.fmean(one.image_passes for one in mine),
        statistics.fmean(one.seconds for one in mine),
        statistics.fmean(one.val_score for one in mine),
        statistics.fmean(chosen) if chosen else None,
        _mean(cells, lambda cell: cell.entries[row].test_score),
        None if row == subject else _difference([c for c in cells if subject in c.entries], row, subject),
    )


def _difference(cells: Sequence[Cell], row: str, subject: str) -> Difference | None:
    if not cells:
        return None
    mean = _mean(cells, lambda cell: cell.entries[subject].test_score - cell.entries[row].test_score)
    counts = Counter(_verdict(members, row, subject) for members in _by(cells, ("arch", "data")).values())
    return Difference(mean, counts["win"], counts["tie"], counts["loss"])


def _verdict(cells: Sequence[Cell], row: str, subject: str) -> str:
    """The verdict on one architecture and one data set."""
    pairs = [(cell.entries[subject], cell.entries[row]) for cell in cells]
    right = [
        (ours.right, theirs.right) for ours, theirs in pairs if ours.right is not None and theirs.right is not None
    ]
    differences = [ours.test_score - theirs.test_score for ours, theirs in pairs]
    return verdict(differences, right if len(right) == len(pairs) else [])


def _mean(cells: Sequence[Cell], value: Any) -> Interval:
    """The interval over data sets and seeds of a value that is first averaged over architectures."""
    by_data = _by(cells, ("data",))
    return interval(
        [
            [statistics.fmean(map(value, same)) for same in _by(members, ("seed",)).values()]
            for members in by_data.values()
        ]
    )


def _by(cells: Sequence[Cell], names: tuple[str, ...]) -> dict[tuple[Any, ...], list[Cell]]:
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(tuple(getattr(cell, name) for name in names), []).append(cell)
    return groups
