"""Pareto fronts of several losses: dominance, ranks, order, knee and hypervolume.

Rows are candidates, columns are losses, lower is better. A row dominates another if it is nowhere worse and somewhere
better. Among equal rows the first counts as the better one, so that every result is a function of the rows and their
order.
"""

from __future__ import annotations

import numpy as np

from ..errors import SearchError


def nondominated(values: np.ndarray) -> np.ndarray:
    """Return a mask (n,) of the rows of `values` (n, K) that no other row dominates; of equal rows only the first.

    Example:
        >>> nondominated(np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 2.0], [1.0, 1.0]])).tolist()
        [True, True, False, False]
    """
    values = _checked(values)
    return np.asarray(~_dominated(values).any(axis=1))


def ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank (n,) of each row of `values` (n, K).

    It is 0 for the nondominated rows, 1 for those that are nondominated without these, and so on.

    Example:
        >>> ranks(np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])).tolist()
        [0, 0, 1, 2]
    """
    values = _checked(values)
    dominated = _dominated(values)
    rank = np.full(len(values), -1)
    front = 0
    while (rank < 0).any():
        unranked = rank < 0
        rank[unranked & ~dominated[:, unranked].any(axis=1)] = front
        front += 1
    return rank


def order(values: np.ndarray) -> list[int]:
    """Return the row numbers of `values` (n, K), best first: by rank, then by the sum of the scaled values.

    Example:
        >>> order(np.array([[3.0, 3.0], [0.0, 2.0], [0.5, 0.5], [2.0, 2.0]]))
        [2, 1, 3, 0]
    """
    values = _checked(values)
    if not len(values):
        return []
    return [int(row) for row in np.lexsort((np.arange(len(values)), _scaled(values).sum(axis=1), ranks(values)))]


def knee(values: np.ndarray) -> int:
    """Return the row number of the knee of a front (n, K), its best compromise; the first among equals.

    Each loss is scaled from 0 at the front's best value to 1 at its worst. The knee has the least sum. It lies farthest
    from the hyperplane through the extremes of the front, on the side of the ideal point (Das 1999; Branke et al.
    2004).

    Raises:
        SearchError: the front has no rows.

    Example:
        >>> knee(np.array([[0.0, 10.0], [1.0, 2.0], [5.0, 0.0]]))
        1
    """
    values = _checked(values)
    if not len(values):
        raise SearchError("a front without rows has no knee\nevery evaluation failed\nmend the objective first")
    return int(np.argmin(_scaled(values).sum(axis=1)))


def hypervolume(values: np.ndarray, reference: np.ndarray) -> float:
    """Return the volume that the rows of `values` (n, K) dominate below the point `reference` (K,), computed exactly.

    The volume is cut into slices. This is quick for two losses, and for three losses and some hundred rows; each
    further loss multiplies the time by n.

    Example:
        >>> hypervolume(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([2.0, 2.0]))
        3.0
    """
    values, reference = _checked(values), np.asarray(reference, dtype=np.float64)
    return _volume(values[(values < reference).all(axis=1)], reference)


def _volume(values: np.ndarray, reference: np.ndarray) -> float:
    """Sum slices along the last loss: width up to the next row times volume of the rows so far in the other losses."""
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


def _dominated(values: np.ndarray) -> np.ndarray:
    """Return a mask (n, n): whether the row of the mask is dominated by, or a later copy of, its column."""
    no_worse = (values[None, :, :] <= values[:, None, :]).all(axis=2)
    better = (values[None, :, :] < values[:, None, :]).any(axis=2)
    earlier = np.tril(np.ones((len(values), len(values)), dtype=bool), k=-1)
    return np.asarray(no_worse & (better | earlier))


def _scaled(values: np.ndarray) -> np.ndarray:
    """Scale each column from 0 at its best value to 1 at its worst; a constant column becomes 0."""
    low, width = values.min(axis=0), np.ptp(values, axis=0)
    return np.asarray((values - low) / np.where(width > 0, width, 1.0))


def _checked(values: np.ndarray) -> np.ndarray:
    """Return the values as floats.

    Raises:
        SearchError: they are not finite, or not of shape (n, K) with K above 0.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1] or not np.isfinite(values).all():
        raise SearchError(
            f"a comparison of losses needs finite numbers of shape (n, K), got shape {values.shape}\n"
            "a failure has no place on a front\n"
            "pass one row a candidate, and leave failures out"
        )
    return values
