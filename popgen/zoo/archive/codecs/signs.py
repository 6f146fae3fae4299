"""1-bit: the sign of each difference in a matrix, and one scale for each channel (BitDelta, arXiv 2402.10193).

The scale is the mean absolute difference, which has the least squared error. BitDelta has one scale for each matrix and then trains it;
a scale for each channel is closer without training.
"""

from __future__ import annotations

import numpy as np

from popgen.zoo.archive.codecs.codec import ALWAYS, Values, added, difference
from popgen.zoo.archive.codecs.integers import read_scaled, scaled_blocks
from popgen.zoo.archive.codecs.layout import Layout
from popgen.zoo.archive.codecs.scaled import read_scales, rounded, scale_bytes
from popgen.zoo.archive.codecs.sections import Sections, pack

_FINE = 127  # levels of vectors


class Signs:
    """The codec `1-bit`."""

    name = "1-bit"
    base_use = ALWAYS

    def encode(self, layout: Layout, flat: Values, base: Values | None) -> bytes:
        """See `Codec`."""
        delta, counts = difference(flat, base), layout.channels(matrices=True)
        values = delta[layout.is_matrix]
        scales = np.zeros(0, dtype=np.float32)
        if len(values):
            starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
            scales = rounded((np.add.reduceat(np.abs(values), starts) / counts).astype(np.float32))
        signs = np.packbits(values > 0).tobytes()
        return pack([signs, scale_bytes(scales), *scaled_blocks(layout, delta, _FINE, matrices=False)])

    def decode(self, layout: Layout, packed: bytes, base: Values | None) -> Values:
        """See `Codec`."""
        sections, counts = Sections(packed), layout.channels(matrices=True)
        total = int(counts.sum())
        bits = np.frombuffer(sections.take((total + 7) // 8), dtype=np.uint8)
        scales = np.repeat(read_scales(sections.take(2 * len(counts))), counts)
        delta = np.empty(layout.size, dtype=np.float32)
        delta[layout.is_matrix] = np.where(np.unpackbits(bits, count=total).astype(bool), scales, -scales)
        delta[~layout.is_matrix] = read_scaled(layout, sections, matrices=False)
        sections.end()
        return added(layout, delta, base)
