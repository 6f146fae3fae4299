"""The evaluations of one search, read from its run folder: best so far, the population in two dimensions, failures."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from popgen.jobs.searching.folder import RunFolder
from search import History, Population, Record, best_of, principal_directions


@dataclass(frozen=True)
class Trace:
    """The records of a search, in the order in which they were made, and the versions of the engine's libraries.

    `places` (m, 2) are evaluated candidates in the first two principal components of all of them, `placed` their records, and `explained`
    the shares of the variance, 0 to 1. They are None where fewer than three candidates were evaluated in full.
    """

    records: list[Record]
    versions: dict[str, str]
    objectives: tuple[str, ...]
    is_pareto: bool
    placed: list[Record]
    places: np.ndarray | None
    explained: tuple[float, float] | None

    @property
    def full(self) -> list[Record]:
        """The evaluations on all examples that did not fail."""
        return [one for one in self.records if one.full and one.loss is not None]

    @property
    def spent(self) -> int:
        """Evaluations by their cost, rounded up."""
        return math.ceil(sum(one.cost for one in self.records) - 1e-9)

    def failures(self) -> list[tuple[str, int, int]]:
        """Each error, how many candidates had it, and the index of the first; the most frequent first."""
        failed = [(one.error, one.index) for one in self.records if one.error is not None]
        first = {error: index for error, index in reversed(failed)}
        return [(error, count, first[error]) for error, count in Counter(error for error, _ in failed).most_common()]

    def best_so_far(self, before: float = 0.0) -> list[tuple[float, float, Record]]:
        """Where the best candidate changes: evaluations spent until then, its loss without the penalty, and its record.

        Candidates are compared by the loss that the search minimises. Looks at a part of the examples cost their share, and
        are not compared.

        Args:
            before: evaluations that were spent before the search.
        """
        best, spent, found = math.inf, before, []
        for one in self.records:
            spent += one.cost
            if one.loss is not None and one.full and one.loss < best:
                best = one.loss
                found.append((spent, plain_loss(one), one))
        return found


def plain_loss(record: Record) -> float:
    """The loss as tables have it: without the penalty for candidates far from the population."""
    plain = record.metrics.get("unpenalised_loss")
    return float("nan") if record.loss is None else record.loss if plain is None else plain


def read_trace(folder: RunFolder, arch: str) -> Trace:
    """Read the search of one architecture.

    Raises:
        SearchError: a record or the population is broken, or another process writes the run.
    """
    records: list[Record] = []
    header: dict[str, Any] = {}
    if folder.history.is_file():
        with History(folder.history, arch) as history:
            records, header = history.records, history.header or {}
    settings = header.get("settings", {})
    objectives = tuple(map(str, settings.get("objectives") or ("loss",)))
    is_pareto = len(objectives) > 1 and settings.get("weights") is None
    placed, places, explained = _places(folder.history, arch, folder.population(arch), records)
    return Trace(records, dict(header.get("versions", {})), objectives, is_pareto, placed, places, explained)


def _places(
    history: Path, arch: str, population: Path, records: list[Record]
) -> tuple[list[Record], np.ndarray | None, tuple[float, float] | None]:
    """The evaluated candidates in two dimensions."""
    full = [one for one in records if one.full and one.loss is not None]
    if len(full) < 3 or not population.is_file():
        return [], None, None
    found = best_of(history, arch, Population.load(population), len(full))
    by_index = {one.index: one for one in full}
    placed = [by_index[int(origin.removeprefix("best:"))] for origin in found.origins]
    places, explained = principal_components(found.vectors)
    return placed, places, explained


def principal_components(vectors: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Vectors (n, dim) in their first two principal components (n, 2), and the shares of the variance of these.

    The sign of each component is such that its largest weight is positive.

    >>> places, explained = principal_components(np.array([[0.0, 0, 0], [2, 0, 0], [4, 0, 0]]))
    >>> places.round(9).tolist(), explained
    ([[-2.0, 0.0], [0.0, 0.0], [2.0, 0.0]], (1.0, 0.0))
    """
    centred = vectors - vectors.mean(axis=0)
    singular, directions = principal_directions(vectors)
    total = float(np.sum(singular**2))
    places, shares = np.zeros((len(vectors), 2)), [0.0, 0.0]
    for i in range(min(2, len(singular)) if total > 0 else 0):
        places[:, i] = centred @ directions[i]
        shares[i] = float(singular[i] ** 2) / total
    return places, (shares[0], shares[1])
