"""int8 to int3: differences as integers with one scale for each output channel of a matrix (Krishnamoorthi, arXiv 1806.08342).

Vectors (biases, batch norm) are few and matter much: they take eight bits in every codec.
"""

from __future__ import annotations

import numpy as np

from popgen.zoo.archive.codecs.codec import ALSO, Values, added, difference
from popgen.zoo.archive.codecs.layout import Layout
from popgen.zoo.archive.codecs.scaled import dequantise, quantise, read_scales, scale_bytes
from popgen.zoo.archive.codecs.sections import Sections, pack

_FINE = 127


class Integers:
    """The codec `intB`, of B bits: integers from -(2^(B-1) - 1) to 2^(B-1) - 1, under zstd."""

    base_use = ALSO

    def __init__(self, bits: int) -> None:
        self.name = f"int{bits}"
        self._levels = 2 ** (bits - 1) - 1

    def encode(self, layout: Layout, flat: Values, base: Values | None) -> bytes:
        """See `Codec`."""
        delta = difference(flat, base)
        blocks = scaled_blocks(layout, delta, self._levels, matrices=True)
        return pack([*blocks, *scaled_blocks(layout, delta, _FINE, matrices=False)])

    def decode(self, layout: Layout, packed: bytes, base: Values | None) -> Values:
        """See `Codec`."""
        sections, delta = Sections(packed), np.empty(layout.size, dtype=np.float32)
        delta[layout.is_matrix] = read_scaled(layout, sections, matrices=True)
        delta[~layout.is_matrix] = read_scaled(layout, sections, matrices=False)
        sections.end()
        return added(layout, delta, base)


def scaled_blocks(layout: Layout, delta: Values, levels: int, *, matrices: bool) -> list[bytes]:
    """The integers and the scales of all matrices, or of all vectors, of a difference (p,)."""
    chosen = layout.is_matrix if matrices else ~layout.is_matrix
    integers, scales = quantise(delta[chosen], layout.channels(matrices=matrices), levels)
    return [integers.tobytes(), scale_bytes(scales)]


def read_scaled(layout: Layout, sections: Sections, *, matrices: bool) -> Values:
    """The values of `scaled_blocks`."""
    counts = layout.channels(matrices=matrices)
    integers = np.frombuffer(sections.take(int(counts.sum())), dtype=np.int8)
    return dequantise(integers, read_scales(sections.take(2 * len(counts))), counts)
