"""Axes of charts: data units to pixels, round ticks, and labels moved apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Maps values from `low` to `high` onto pixels from `start` to `end`, linearly or by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value.

        >>> Scale(1, 100, 0, 10, log=True)(10)
        5.0
        """
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        """Round values inside of the axis, at most about `most` of them.

        >>> Scale(0, 300, 0, 1).ticks(4), Scale(0.07, 4, 0, 1, log=True).ticks(6)
        ([0.0, 100.0, 200.0, 300.0], [0.1, 0.2, 0.5, 1.0, 2.0])
        """
        return _log_ticks(self.low, self.high, most) if self.log else _linear_ticks(self.low, self.high, most)


def scale_around(
    values: Sequence[float], start: float, end: float, *, log: bool = False, margin: float = 0.06
) -> Scale:
    """A scale for all values with a margin at both ends, a share of their range.

    >>> scale = scale_around([0.0, 100.0], 0, 10)
    >>> scale.low, scale.high
    (-6.0, 106.0)
    """
    low, high = min(values), max(values)
    if log:
        factor = (high / low) ** margin if high > low else 1.5
        return Scale(low / factor, high * factor, start, end, True)
    room = (high - low) * margin if high > low else abs(high) * 0.1 or 1.0
    return Scale(low - room, high + room, start, end)


def same_unit(x: Scale, y: Scale) -> tuple[Scale, Scale]:
    """The two linear scales, the narrower one widened around its middle until a pixel is the same distance in both.

    >>> x, y = same_unit(Scale(0, 10, 0, 100), Scale(0, 10, 50, 0))
    >>> (x.low, x.high), (y.low, y.high)
    ((-5.0, 15.0), (0.0, 10.0))
    """
    unit = max((s.high - s.low) / abs(s.end - s.start) for s in (x, y))

    def widened(s: Scale) -> Scale:
        middle, half = (s.low + s.high) / 2, unit * abs(s.end - s.start) / 2
        return Scale(middle - half, middle + half, s.start, s.end)

    return widened(x), widened(y)


def number(value: float) -> str:
    """A tick's value, short.

    >>> [number(v) for v in (0.1, 1.0, 3000.0, 250000.0, -0.05, 1e-7)]
    ['0.1', '1', '3000', '250,000', '-0.05', '1e-07']
    """
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{round(value, 12):g}"


def apart(places: Sequence[float], gap: float) -> list[float]:
    """The growing places, moved as little as it takes for neighbours to be a gap apart: groups around their mean.

    >>> apart([1.0, 1.0, 9.0], 2.0)
    [0.0, 2.0, 9.0]
    """
    groups: list[list[float]] = []
    for place in places:
        groups.append([place])
        while len(groups) > 1 and _first(groups[-1], gap) < _first(groups[-2], gap) + gap * len(groups[-2]):
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_first(group, gap) + gap * i for group in groups for i in range(len(group))]


def outward(low: float, high: float) -> tuple[float, float]:
    """The next round numbers below and above two values.

    >>> outward(0.829, 0.972), outward(0.5, 0.5)
    ((0.8, 1.0), (0.45, 0.55))
    """
    if low == high:
        low, high = low - 0.05, high + 0.05
    step = _step((high - low) / 4)
    return round(math.floor(low / step + 1e-9) * step, 12), round(math.ceil(high / step - 1e-9) * step, 12)


def _step(rough: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough * 0.999)


def _first(group: list[float], gap: float) -> float:
    """The lowest place of labels around the mean of their places."""
    return sum(group) / len(group) - gap * (len(group) - 1) / 2


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    step = _step((high - low) / most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    """1, 2 and 5 times powers of ten; powers alone where there are many, and round steps where there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]
    if len(fine) < 3:
        return [tick for tick in _linear_ticks(low, high, 4) if tick > 0]
    if len(fine) <= most:
        return fine
    coarse = [10.0**p for p in powers if low <= 10.0**p <= high]
    return coarse[:: math.ceil(len(coarse) / most)]
