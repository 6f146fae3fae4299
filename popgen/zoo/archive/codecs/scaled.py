"""Integers with one scale for each channel, or for each vector: what the lossy codecs are made of.

Scales are the upper 16 bits of a float32, rounded up: two bytes with the range of a float32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from popgen.zoo.archive.codecs.codec import Values

_LARGEST = np.float32(3.3e38)
_SHRUNK = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)  # shares of the largest value at which coarse steps may clip
_FINE = 127  # from so many levels on nothing is clipped


def scale_bytes(scales: Values) -> bytes:
    """The bytes of scales (s,), which are not negative."""
    bits = np.minimum(scales, _LARGEST).astype("<f4").view("<u4").astype(np.uint64)
    return ((bits + 0xFFFF) >> 16).astype("<u2").tobytes()


def read_scales(content: bytes) -> Values:
    """The inverse of `scale_bytes`.

    Raises:
        ValueError: a scale is not finite.
    """
    scales = (np.frombuffer(content, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    if not np.isfinite(scales).all():
        raise ValueError("a scale is not finite")
    return scales


def rounded(scales: Values) -> Values:
    """Scales as they are read back."""
    return read_scales(scale_bytes(scales))


def quantise(values: Values, counts: NDArray[np.int64], levels: int) -> tuple[NDArray[np.int8], Values]:
    """Integers (p,) from -levels to levels, and their scales (s,), one for each of the consecutive groups of `counts` (s,) values.

    Below 127 levels a scale is that share of the largest value with the least squared error.

    >>> integers, scales = quantise(np.array([1.0, -0.5, 0.0], dtype=np.float32), np.array([3]), 127)
    >>> integers.tolist(), float(scales[0]) > 1 / 128
    ([126, -63, 0], True)
    """
    if not len(values):
        return np.zeros(0, dtype=np.int8), np.zeros(0, dtype=np.float32)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    peaks = np.maximum.reduceat(np.abs(values), starts)
    best = np.full(len(counts), np.inf)
    scales = np.ones(len(counts), dtype=np.float32)
    for share in _SHRUNK if levels < _FINE else _SHRUNK[:1]:
        tried = rounded((peaks * np.float32(share / levels)).astype(np.float32))
        error = np.add.reduceat((values - _round_trip(values, tried, counts, levels)).astype(np.float64) ** 2, starts)
        scales, best = np.where(error < best, tried, scales), np.minimum(error, best)
    return _integers(values, scales, counts, levels), scales.astype(np.float32)


def dequantise(integers: NDArray[np.int8], scales: Values, counts: NDArray[np.int64]) -> Values:
    """The values (p,) of integers (p,) and scales (s,)."""
    return integers.astype(np.float32) * np.repeat(scales, counts)


def _integers(values: Values, scales: Values, counts: NDArray[np.int64], levels: int) -> NDArray[np.int8]:
    each = np.repeat(scales, counts)
    steps = np.divide(values, each, out=np.zeros_like(values), where=each > 0)
    return np.clip(np.rint(steps), -levels, levels).astype(np.int8)


def _round_trip(values: Values, scales: Values, counts: NDArray[np.int64], levels: int) -> Values:
    return dequantise(_integers(values, scales, counts, levels), scales, counts)
