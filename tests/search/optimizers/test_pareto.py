"""Pareto fronts, ranks, knees and hypervolumes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import SearchError
from search.optimizers.pareto import hypervolume, knee, nondominated, order, ranks

# Small whole numbers, so that equal rows and equal losses come up.
TABLES = (
    st.integers(1, 4)
    .flatmap(lambda k: st.lists(st.lists(st.integers(0, 4), min_size=k, max_size=k), min_size=1, max_size=12))
    .map(lambda rows: np.array(rows, dtype=float))
)


def dominates(one: np.ndarray, other: np.ndarray) -> bool:
    return bool((one <= other).all() and (one < other).any())


@settings(max_examples=60, deadline=None)
@given(TABLES)
def test_the_front_is_what_nothing_beats(values: np.ndarray):
    front = nondominated(values)
    for row, one in enumerate(values):
        beaten = any(dominates(other, one) for other in values)
        repeats = any(np.array_equal(other, one) for other in values[:row])
        assert front[row] == (not beaten and not repeats)


@settings(max_examples=60, deadline=None)
@given(TABLES)
def test_ranks_peel_fronts(values: np.ndarray):
    rank, remaining = ranks(values), np.arange(len(values))
    for number in range(rank.max() + 1):
        front = nondominated(values[remaining])
        assert (rank[remaining[front]] == number).all()
        remaining = remaining[~front]
    assert not len(remaining)


@settings(max_examples=60, deadline=None)
@given(TABLES)
def test_order_puts_what_dominates_first(values: np.ndarray):
    rows = order(values)
    assert sorted(rows) == list(range(len(values)))
    assert np.array_equal(ranks(values)[rows], np.sort(ranks(values)))
    place = np.argsort(rows)
    for row, one in enumerate(values):
        assert all(place[row] < place[other] for other in range(len(values)) if dominates(one, values[other]))
    scaled = values * [10.0**k for k in range(values.shape[1])] + 7.0
    assert order(scaled) == rows or not np.array_equal(ranks(scaled), ranks(values))


@settings(max_examples=40, deadline=None)
@given(TABLES)
def test_volume_counts_cells(values: np.ndarray):
    """On whole numbers the volume is the number of unit cells that a row dominates."""
    reference = np.full(values.shape[1], 4.0)
    cells = np.stack(np.meshgrid(*[np.arange(4)] * values.shape[1], indexing="ij"), -1).reshape(-1, values.shape[1])
    covered = (values[:, None, :] <= cells[None, :, :]).all(axis=2).any(axis=0)
    assert hypervolume(values, reference) == pytest.approx(covered.sum())
    assert hypervolume(values[nondominated(values)], reference) == pytest.approx(covered.sum())


@settings(max_examples=40, deadline=None)
@given(TABLES)
def test_knee_has_the_least_scaled_sum(values: np.ndarray):
    front = values[nondominated(values)]
    width = np.where(np.ptp(front, axis=0) > 0, np.ptp(front, axis=0), 1.0)
    sums = ((front - front.min(axis=0)) / width).sum(axis=1)
    assert sums[knee(front)] == sums.min()
    assert knee(front) == int(np.argmin(sums))


def test_knee_ignores_units():
    front = np.array([[0.0, 10.0], [1.0, 2.0], [5.0, 0.0]])
    assert knee(front) == knee(front * [1.0, 1000.0]) == 1


def test_no_rows():
    assert order(np.zeros((0, 2))) == []
    assert hypervolume(np.zeros((0, 2)), np.ones(2)) == 0.0
    assert hypervolume(np.array([[2.0, 0.0]]), np.ones(2)) == 0.0
    with pytest.raises(SearchError, match="a front without rows has no knee\n.*\n"):
        knee(np.zeros((0, 2)))


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((2, 0)), np.array([[0.0, np.nan]])])
def test_bad_tables_are_refused(values: np.ndarray):
    with pytest.raises(SearchError) as caught:
        nondominated(values)
    assert str(caught.value).startswith("a comparison of losses needs finite numbers of shape (n, K), got shape (")
    assert len(str(caught.value).splitlines()) == 3
