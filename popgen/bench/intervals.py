"""Bootstrap intervals of a mean over data sets and seeds, and whether a paired difference is beyond chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

_DRAWS = 5000
_ERRORS = 2.0  # a difference of so many standard errors is a win or a loss
Verdict = Literal["win", "tie", "loss"]


@dataclass(frozen=True)
class Interval:
    """A mean, and the ends of its 95% interval, None where there is nothing to resample."""

    mean: float
    low: float | None = None
    high: float | None = None

    def text(self, signed: bool = False) -> str:
        """Return it for people.

        >>> Interval(0.0123, -0.001, 0.02).text(signed=True), Interval(0.9).text()
        ('+0.012 [-0.001, +0.020]', '0.900')
        """
        sign = "+" if signed else ""
        mean = f"{self.mean:{sign}.3f}"
        return (
            mean if self.low is None or self.high is None else f"{mean} [{self.low:{sign}.3f}, {self.high:{sign}.3f}]"
        )


def interval(cells: Sequence[Sequence[float]], seed: int = 0) -> Interval:
    """The mean over data sets of their means over seeds, with a percentile interval by a bootstrap in two stages.

    Data sets are drawn with replacement, then seeds within each of them (Davison and Hinkley, Bootstrap methods and their application,
    1997, section 3.8). A bootstrap of D units is too narrow by sqrt((D - 1) / D), so that deviations are stretched by the inverse. With
    one data set only its seeds are drawn, and the interval says nothing about other data sets.

    Args:
        cells: a value for each seed, for each data set that has any.

    >>> interval([[0.5, 0.5], [0.7, 0.7]]).mean, interval([[0.5]])
    (0.6, Interval(mean=0.5, low=None, high=None))
    """
    given = [np.asarray(values, float) for values in cells if len(values)]
    mean = float(np.mean([values.mean() for values in given]))
    counts = np.array([len(values) for values in given])
    units = len(given) if len(given) > 1 else int(counts[0])
    if units < 2:
        return Interval(mean)
    padded = np.zeros((len(given), counts.max()))
    for row, values in zip(padded, given, strict=True):
        row[: len(values)] = values
    draws = np.random.default_rng(seed)
    sets = draws.integers(len(given), size=(_DRAWS, len(given)))
    n = counts[sets][..., None]
    seeds = (draws.random((*sets.shape, counts.max())) * n).astype(int)
    used = np.arange(counts.max()) < n
    means = (np.where(used, padded[sets[..., None], seeds], 0).sum(-1) / n[..., 0]).mean(-1)
    stretched = mean + (means - mean) * math.sqrt(units / (units - 1))
    low, high = np.quantile(stretched, [0.025, 0.975])
    return Interval(mean, float(low), float(high))


def verdict(differences: Sequence[float], right: Sequence[tuple[np.ndarray, np.ndarray]]) -> Verdict:
    """Whether one network is better than another on a data set: a tie within two standard errors of their difference.

    The variance has two parts: that of the test examples, from the paired outcomes averaged over the seeds, and that between the seeds.

    Args:
        differences: the difference of the scores for each seed.
        right: for each seed the outcomes (n,) of both on the same test examples, 1 for right; () where they are not known.

    >>> verdict([0.1], [(np.array([1, 1, 0, 1] * 50), np.array([1, 0, 0, 1] * 50))]), verdict([0.1], [])
    ('win', 'tie')
    """
    mean = float(np.mean(differences))
    variances = []
    if right:
        paired = np.mean([ours.astype(float) - theirs.astype(float) for ours, theirs in right], axis=0)
        variances.append(paired.var(ddof=1) / len(paired))
    if len(differences) > 1:
        variances.append(np.var(differences, ddof=1) / len(differences))
    if not variances or abs(mean) <= _ERRORS * math.sqrt(sum(variances)):
        return "tie"
    return "win" if mean > 0 else "loss"
