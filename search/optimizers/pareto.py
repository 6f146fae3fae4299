"""Trade-offs between several losses: which rows nothing beats, in which order the others come, how much a front covers.

Rows are candidates, columns are losses, lower is better. A row dominates another if it is nowhere worse and somewhere
better. Of equal rows the first counts as the better one, so that every answer is a function of the rows and their order.
"""

from __future__ import annotations

import numpy as np

from ..errors import SearchError


def nondominated(values: np.ndarray) -> np.ndarray:
    """Which rows of `values` (n, K) are on the front: (n,) bool; of equal rows only the first.

    Example:
        >>> nondominated(np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 2.0], [1.0, 1.0]])).tolist()
        [True, True, False, False]
    """
    values = _checked(values)
    return np.asarray(~_beaten(values).any(axis=1))


def ranks(values: np.ndarray) -> np.ndarray:
    """The front of each row of `values` (n, K): 0 for the nondominated, 1 for those of the rest, and so on; (n,) int.

    Example:
        >>> ranks(np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])).tolist()
        [0, 0, 1, 2]
    """
    values = _checked(values)
    beaten = _beaten(values)
    rank = np.full(len(values), -1)
    front = 0
    while (rank < 0).any():
        left = rank < 0
        rank[left & ~beaten[:, left].any(axis=1)] = front
        front += 1
    return rank


def order(values: np.ndarray) -> list[int]:
    """Row numbers of `values` (n, K), best first: by rank, then by the sum of the values scaled to their range.

    Example:
        >>> order(np.array([[3.0, 3.0], [0.0, 2.0], [0.5, 0.5], [2.0, 2.0]]))
        [2, 1, 3, 0]
    """
    values = _checked(values)
    if not len(values):
        return []
    return [int(row) for row in np.lexsort((np.arange(len(values)), _scaled(values).sum(axis=1), ranks(values)))]


def knee(values: np.ndarray) -> int:
    """The row of a front (n, K) that gives up least of every loss at once; the first among equals.

    Each loss is scaled from the front's best value (0) to its worst (1). The knee has the least sum, which is to lie
    farthest from the hyperplane through the extremes towards the ideal (Das 1999; Branke et al. 2004).

    Raises:
        SearchError: there is no row.

    Example:
        >>> knee(np.array([[0.0, 10.0], [1.0, 2.0], [5.0, 0.0]]))
        1
    """
    values = _checked(values)
    if not len(values):
        raise SearchError("a front without rows has no knee\nevery evaluation failed\nmend the objective first")
    return int(np.argmin(_scaled(values).sum(axis=1)))


def hypervolume(values: np.ndarray, reference: np.ndarray) -> float:
    """The volume that the rows of `values` (n, K) dominate within `reference` (K,); exact, by slices.

    Quick for two losses, and for three of some hundred rows; its time grows by a factor of n with each loss more.

    Example:
        >>> hypervolume(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([2.0, 2.0]))
        3.0
    """
    values, reference = _checked(values), np.asarray(reference, dtype=np.float64)
    return _volume(values[(values < reference).all(axis=1)], reference)


def _volume(values: np.ndarray, reference: np.ndarray) -> float:
    """Slices along the last loss; each is as wide as the gap to the next row, and as large as the front up to it."""
    if not len(values):
        return 0.0
    if values.shape[1] == 1:
        return float(reference[0] - values.min())
    values = values[np.argsort(values[:, -1], kind="stable")]
    if values.shape[1] == 2:
        best = np.minimum.accumulate(values[:, 0])
        return float(np.sum((reference[0] - best) * np.diff(values[:, 1], append=reference[1])))
    widths = np.diff(values[:, -1], append=reference[-1])
    front = np.zeros((0, values.shape[1] - 1))
    total = 0.0
    for row, width in zip(values, widths, strict=True):
        if not (front <= row[:-1]).all(axis=1).any():
            front = np.vstack([front[~(row[:-1] <= front).all(axis=1)], row[:-1]])
        if width:
            total += float(width) * _volume(front, reference[:-1])
    return total


def _beaten(values: np.ndarray) -> np.ndarray:
    """(n, n) bool: whether the row is dominated by, or a later copy of, the column."""
    no_worse = (values[None, :, :] <= values[:, None, :]).all(axis=2)
    better = (values[None, :, :] < values[:, None, :]).any(axis=2)
    earlier = np.tril(np.ones((len(values), len(values)), dtype=bool), k=-1)
    return np.asarray(no_worse & (better | earlier))


def _scaled(values: np.ndarray) -> np.ndarray:
    """Each column from 0 at its best value to 1 at its worst; 0 where it is constant."""
    low, width = values.min(axis=0), np.ptp(values, axis=0)
    return np.asarray((values - low) / np.where(width > 0, width, 1.0))


def _checked(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1] or not np.isfinite(values).all():
        raise SearchError(
            f"a comparison of losses needs finite numbers of shape (n, K), got shape {values.shape}\n"
            "a failure has no place on a front\n"
            "pass one row a candidate, and leave failures out"
        )
    return values
