"""Codec: the contract of one way to write a network as bytes, and the differences that lossy codecs write."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from popgen.zoo.archive.codecs.layout import Layout

Values = NDArray[np.float32]  # weights (p,) of one network
BaseUse = Literal["never", "also", "always"]
NEVER: BaseUse = "never"
ALSO: BaseUse = "also"
ALWAYS: BaseUse = "always"


class Codec(Protocol):
    """Writes a network (p,) as bytes, and reads it back. A base (p,) is a network from which the differences are written.

    Decoding makes single operations of IEEE arithmetic on each value, so that it gives the same bits on every machine.
    """

    @property
    def name(self) -> str:
        """The codec's name in files and tables."""

    @property
    def base_use(self) -> BaseUse:
        """Whether it writes differences from a base: never, also, or nothing else."""

    def encode(self, layout: Layout, flat: Values, base: Values | None) -> bytes:
        """The bytes of a network, as `sections.pack` makes them."""

    def decode(self, layout: Layout, packed: bytes, base: Values | None) -> Values:
        """The network; exact, if the codec is lossless.

        Raises:
            ValueError: the bytes are damaged.
        """


def difference(flat: Values, base: Values | None) -> Values:
    """The difference (p,) from the base, or from nothing."""
    return flat if base is None else flat - base


def added(layout: Layout, delta: Values, base: Values | None) -> Values:
    """The network of a difference (p,); running variances that would be negative become 0."""
    flat = delta if base is None else base + delta
    return np.where(layout.is_variance & (flat < 0), np.float32(0), flat)
