"""The spectral signal-to-noise ratio of a weight matrix: how far its singular values stand out from those of noise.

The idea is Spectrum's (Hartford et al. 2024, "Spectrum: Targeted training on signal to noise ratio", arXiv 2406.06623):
signal is the sum of the singular values above the Marchenko-Pastur edge, noise the sum of the others. `spectrum` is the
formula of the paper. Its edge is below most of pure noise, so `calibrated`, the default, takes the noise scale from the
median singular value in units of the median of the Marchenko-Pastur law (Gavish and Donoho 2014, "The optimal hard
threshold for singular values is 4/sqrt(3)", arXiv 1305.5870), and its ratio does not depend on the scale of the matrix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from scipy.integrate import quad
from scipy.optimize import brentq
from torch import Tensor

Formula = Literal["calibrated", "spectrum"]
_NORMAL_IQR = 1.349  # interquartile range of a normal distribution in units of its standard deviation


@dataclass(frozen=True)
class Spectrum:
    """What the singular values of one matrix say."""

    edge: float  # the largest singular value that noise of the estimated scale would have
    rank: int  # singular values above the edge
    largest: float  # the largest singular value
    snr: float  # signal by noise; infinite if no singular value is below the edge


def signal_to_noise(matrix: Tensor, formula: Formula = "calibrated") -> Spectrum | None:
    """Return the spectral signal-to-noise ratio of a matrix (m, n); None if its singular values give no scale of noise.

    There is none if half of them are zero (calibrated), or if the middle half are equal (spectrum), to within rounding.

    Args:
        matrix: finite values; computed in float32.
        formula: `calibrated` has the edge of noise whose median singular value is the matrix's. `spectrum` has the noise
            scale IQR / 1.349, the edge scale x (1 + sqrt(m / n)), and divides the ratio by the largest singular value.

    >>> found = signal_to_noise(torch.diag(torch.tensor([9.0, 1.0, 1.0, 1.0])))
    >>> found.rank, found.snr
    (1, 3.0)
    """
    values = torch.linalg.svdvals(matrix.float()).double()  # descending
    short, long = sorted(matrix.shape)
    root, largest = math.sqrt(short / long), float(values[0])
    if formula == "calibrated":
        scale = float(values.quantile(0.5))
        edge = marchenko_pastur_edge(short, long, scale / marchenko_pastur_median(short, long))
    else:
        lower, upper = values.quantile(torch.tensor([0.25, 0.75], dtype=values.dtype)).tolist()
        scale = upper - lower
        edge = scale / _NORMAL_IQR * (1 + root)
    if scale <= largest * long * torch.finfo(torch.float32).eps:  # the rounding error of singular values
        return None
    above = values > edge
    signal, noise = float(values[above].sum()), float(values[~above].sum())
    ratio = signal / noise if noise else math.inf
    return Spectrum(edge, int(above.sum()), largest, ratio if formula == "calibrated" else ratio / largest)


def marchenko_pastur_edge(m: int, n: int, deviation: float = 1.0) -> float:
    """Return the largest singular value of a large m x n matrix of independent noise with this standard deviation.

    >>> marchenko_pastur_edge(100, 400, 0.5)
    15.0
    """
    return deviation * (math.sqrt(m) + math.sqrt(n))


@cache
def marchenko_pastur_median(m: int, n: int) -> float:
    """Return the median singular value of a large m x n matrix of independent noise with standard deviation 1.

    A squared singular value by the longer side is 1 + b + 2 sqrt(b) cos(t) with b = short / long side, and t in (0, pi)
    has the density 2 sin(t)^2 / (pi (1 + b + 2 sqrt(b) cos(t))), which is the Marchenko-Pastur law.

    >>> round(4 / math.sqrt(3) / marchenko_pastur_median(1, 1), 3)  # Gavish and Donoho's constant
    2.858
    """
    short, long = sorted((m, n))
    ratio = short / long

    def squared(angle: float) -> float:
        return 1 + ratio + 2 * math.sqrt(ratio) * math.cos(angle)

    def share_above(angle: float) -> float:
        return float(quad(lambda t: 2 * math.sin(t) ** 2 / (math.pi * squared(t)), 0.0, angle)[0])

    middle = brentq(lambda angle: share_above(angle) - 0.5, 0.0, math.pi)
    return math.sqrt(long * squared(middle))
