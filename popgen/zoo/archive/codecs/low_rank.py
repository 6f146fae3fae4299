"""Low rank: each matrix of a difference as a product of two thin ones, by singular value decomposition.

The rank of a matrix is the smallest one that keeps a share of its energy, the sum of the squared singular values. The factors have
eight bits and one scale for each component. Where the factors would not be smaller, the matrix is written as int8.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from popgen.zoo.archive.codecs.codec import ALWAYS, Values, added, difference
from popgen.zoo.archive.codecs.integers import read_scaled, scaled_blocks
from popgen.zoo.archive.codecs.layout import Layout, Part
from popgen.zoo.archive.codecs.scaled import dequantise, quantise, read_scales, scale_bytes
from popgen.zoo.archive.codecs.sections import Sections, pack

_LEVELS = 127
_WHOLE = 0xFFFF  # stands for the rank of a matrix that is written as it is


class LowRank:
    """The codec `rankE`, which keeps E percent of the energy of each matrix."""

    base_use = ALWAYS

    def __init__(self, percent: int) -> None:
        self.name = f"rank{percent}"
        self._share = percent / 100

    def encode(self, layout: Layout, flat: Values, base: Values | None) -> bytes:
        """See `Codec`."""
        delta = difference(flat, base)
        ranks: list[int] = []
        thin: list[Values] = []
        for part, values in _matrices(layout, delta):
            left, right = _factors(values.reshape(part.rows, part.columns), self._share)
            is_smaller = left.size + right.size < values.size and len(right) < _WHOLE
            ranks.append(len(right) if is_smaller else _WHOLE)
            thin += [left.T, right] if is_smaller else [values.reshape(part.rows, part.columns)]
        counts = np.array([len(row) for factor in thin for row in factor], dtype=np.int64)
        values = np.concatenate([factor.reshape(-1) for factor in thin] or [np.zeros(0, dtype=np.float32)])
        integers, scales = quantise(values.astype(np.float32), counts, _LEVELS)
        blocks = [np.array(ranks, dtype="<u2").tobytes(), integers.tobytes(), scale_bytes(scales)]
        return pack([*blocks, *scaled_blocks(layout, delta, _LEVELS, matrices=False)])

    def decode(self, layout: Layout, packed: bytes, base: Values | None) -> Values:
        """See `Codec`."""
        sections = Sections(packed)
        parts = [part for part in layout.parts if part.rows > 1]
        ranks = np.frombuffer(sections.take(2 * len(parts)), dtype="<u2").tolist()
        counts = np.array(sum(map(_channels, parts, ranks), []), dtype=np.int64)
        integers = np.frombuffer(sections.take(int(counts.sum())), dtype=np.int8)
        values = dequantise(integers, read_scales(sections.take(2 * len(counts))), counts)
        delta, begin, matrices = np.empty(layout.size, dtype=np.float32), 0, []
        for part, rank in zip(parts, ranks, strict=True):
            size = sum(_channels(part, rank))
            matrices.append(_product(part, rank, values[begin : begin + size]))
            begin += size
        delta[layout.is_matrix] = np.concatenate(matrices or [np.zeros(0, dtype=np.float32)])
        delta[~layout.is_matrix] = read_scaled(layout, sections, matrices=False)
        sections.end()
        return added(layout, delta, base)


def _matrices(layout: Layout, delta: Values) -> list[tuple[Part, Values]]:
    ends = np.cumsum([part.size for part in layout.parts])
    found = zip(layout.parts, np.split(delta, ends[:-1]), strict=True)
    return [(part, values) for part, values in found if part.rows > 1]


def _factors(matrix: Values, share: float) -> tuple[Values, Values]:
    """Factors (rows, r) and (r, columns) of equal norms whose product keeps the share of the energy."""
    left, singular, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    energy = np.cumsum(singular**2)
    rank = int(np.searchsorted(energy, share * energy[-1])) + 1 if energy[-1] > 0 else 0
    roots = np.sqrt(singular[:rank])
    return (left[:, :rank] * roots).astype(np.float32), (roots[:, None] * right[:rank]).astype(np.float32)


def _channels(part: Part, rank: int) -> list[int]:
    """Number of values of each row of what is written of a matrix.

    Raises:
        ValueError: the matrix has no such rank.
    """
    if rank == _WHOLE:
        return [part.columns] * part.rows
    if rank > min(part.rows, part.columns):
        raise ValueError(f"a matrix of {part.rows} by {part.columns} has the rank {rank}")
    return [part.rows] * rank + [part.columns] * rank


def _product(part: Part, rank: int, values: Values) -> NDArray[np.float32]:
    """A matrix as a flat vector. Components are added one after another, so that the sum is the same on every machine."""
    if rank == _WHOLE:
        return values
    left = values[: rank * part.rows].reshape(rank, part.rows)
    right = values[rank * part.rows :].reshape(rank, part.columns)
    total = np.zeros((part.rows, part.columns), dtype=np.float32)
    for column, row in zip(left, right, strict=True):
        total += column[:, None] * row
    return total.reshape(-1)
