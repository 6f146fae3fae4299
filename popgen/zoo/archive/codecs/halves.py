"""float16: a network, or its difference from a base, in half precision, whose two bytes are grouped in planes."""

from __future__ import annotations

import numpy as np

from popgen.zoo.archive.codecs.codec import ALSO, Values, added, difference
from popgen.zoo.archive.codecs.layout import Layout
from popgen.zoo.archive.codecs.sections import Sections, pack

_LARGEST = 65504.0  # the largest float16; what is above it is clipped


class Halves:
    """The codec `float16`."""

    name = "float16"
    base_use = ALSO

    def encode(self, layout: Layout, flat: Values, base: Values | None) -> bytes:
        """See `Codec`."""
        halves = np.clip(difference(flat, base), -_LARGEST, _LARGEST).astype("<f2")
        planes = halves.view(np.uint8).reshape(-1, 2)
        return pack([planes[:, 0].tobytes(), planes[:, 1].tobytes()])

    def decode(self, layout: Layout, packed: bytes, base: Values | None) -> Values:
        """See `Codec`."""
        sections = Sections(packed)
        planes = [np.frombuffer(sections.take(layout.size), dtype=np.uint8) for _ in range(2)]
        sections.end()
        halves = np.stack(planes, axis=1).reshape(-1).view("<f2").astype(np.float32)
        if not np.isfinite(halves).all():
            raise ValueError("a float16 network holds NaN or infinity")
        return added(layout, halves, base)
