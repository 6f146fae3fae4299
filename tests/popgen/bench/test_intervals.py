"""Bootstrap intervals and verdicts of a bench, beside closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from popgen.bench.intervals import Interval, interval, verdict


def test_an_interval_has_the_width_of_the_normal_one() -> None:
    """Values of one seed each: the standard error of their mean is sd / sqrt(n)."""
    values = np.random.default_rng(0).normal(size=40)
    found = interval([[value] for value in values])
    error = values.std(ddof=1) / math.sqrt(40)
    assert found.low is not None and found.high is not None
    assert found.mean == pytest.approx(values.mean())
    assert (found.high - found.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.06)


def test_an_interval_over_few_data_sets_is_not_too_narrow() -> None:
    """It holds the truth in most of 300 draws; a normal interval of four values would do so in 86% of them."""
    draws = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        found = interval([list(value + 0.3 * draws.normal(size=3)) for value in draws.normal(size=4)])
        assert found.low is not None and found.high is not None
        hits += found.low <= 0 <= found.high
    assert 0.8 < hits / 300 < 0.97


def test_data_sets_weigh_the_same_with_different_numbers_of_seeds() -> None:
    assert interval([[1.0], [0.0, 0.0, 0.0]]).mean == 0.5


def test_one_data_set_has_the_interval_of_its_seeds_and_one_value_has_none() -> None:
    found = interval([[0.0, 1.0, 0.0, 1.0]])
    assert found.mean == 0.5 and found.low is not None and found.low < 0.5
    assert interval([[0.3]]) == Interval(0.3)


@pytest.mark.parametrize("shift, expected", [(0.1, "win"), (-0.1, "loss"), (0.0, "tie")])
def test_a_verdict_on_paired_outcomes(shift: float, expected: str) -> None:
    draws = np.random.default_rng(2)
    theirs = (draws.random(1000) < 0.7).astype(np.uint8)
    ours = theirs.copy()
    ours[:100] = 1 if shift > 0 else 0
    if shift == 0.0:
        ours = draws.permutation(theirs)
    assert verdict([float(ours.mean() - theirs.mean())], [(ours, theirs)]) == expected


def test_a_difference_that_only_one_seed_has_is_a_tie() -> None:
    same, better = np.zeros(400, np.uint8), np.r_[np.ones(80, np.uint8), np.zeros(320, np.uint8)]
    assert verdict([0.2, 0.0], [(better, same), (same, same)]) == "tie"
    assert verdict([0.2, 0.2], [(better, same), (better, same)]) == "win"
