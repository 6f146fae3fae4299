"""Lossless coding: the bits of float32 values, or their XOR with or integer difference from a base, in four planes of bytes.

The bits are rotated by one, so that the eight bits of the exponent fill one byte. Exponents take few values, and the upper bytes of a
difference are mostly zero; grouped by planes, zstd's Huffman code makes these small (ZipNN, arXiv 2411.05239; for differences between
fine-tuned networks and their base FM-Delta, NeurIPS 2024).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from popgen.zoo.archive.codecs.codec import ALSO, Values
from popgen.zoo.archive.codecs.layout import Layout
from popgen.zoo.archive.codecs.sections import Sections, pack

_PLAIN, _XOR, _INTEGER = 0, 1, 2
_Bits = NDArray[np.uint32]
_TOP = np.uint32(0x80000000)


class Planes:
    """The lossless codec. With a base it takes the smaller one of XOR and integer difference.

    >>> flat = np.array([1.0, -2.5, np.pi], dtype=np.float32)
    >>> codec, layout = Planes(), Layout.from_json([[1, 3, 0]])
    >>> bool((codec.decode(layout, codec.encode(layout, flat, flat * 2), flat * 2) == flat).all())
    True
    """

    name = "lossless"
    base_use = ALSO

    def encode(self, layout: Layout, flat: Values, base: Values | None) -> bytes:
        """See `Codec`."""
        bits = flat.view(np.uint32)
        if base is None:
            return _pack(_PLAIN, _rotated(bits))
        other = base.view(np.uint32)
        steps = (_ordered(bits) - _ordered(other)).view(np.int32)
        zigzag = (steps << 1).view(np.uint32) ^ (steps >> 31).view(np.uint32)
        return min(_pack(_XOR, _rotated(bits ^ other)), _pack(_INTEGER, zigzag), key=len)

    def decode(self, layout: Layout, packed: bytes, base: Values | None) -> Values:
        """See `Codec`."""
        sections = Sections(packed)
        (mode,) = sections.take(1)
        planes = [np.frombuffer(sections.take(layout.size), dtype=np.uint8) for _ in range(4)]
        sections.end()
        if mode not in (_PLAIN, _XOR, _INTEGER) or (mode != _PLAIN) != (base is not None):
            raise ValueError(f"a lossless network has the mode {mode}")
        coded = np.stack(planes, axis=1).reshape(-1).view("<u4").astype(np.uint32)
        if base is None:
            return _unrotated(coded).view(np.float32)
        other = base.view(np.uint32)
        if mode == _XOR:
            return (_unrotated(coded) ^ other).view(np.float32)
        steps = (coded >> np.uint32(1)) ^ (np.uint32(0) - (coded & np.uint32(1)))
        return _unordered(_ordered(other) + steps).view(np.float32)


def _pack(mode: int, coded: _Bits) -> bytes:
    planes = np.ascontiguousarray(coded).astype("<u4").view(np.uint8).reshape(-1, 4)
    return pack([bytes([mode]), *(planes[:, i].tobytes() for i in range(4))])


def _rotated(bits: _Bits) -> _Bits:
    return (bits << np.uint32(1)) | (bits >> np.uint32(31))


def _unrotated(bits: _Bits) -> _Bits:
    return (bits >> np.uint32(1)) | (bits << np.uint32(31))


def _ordered(bits: _Bits) -> _Bits:
    """Integers in the order of the floats, so that neighbouring floats differ by one."""
    return np.where(bits & _TOP, ~bits, bits | _TOP)


def _unordered(integers: _Bits) -> _Bits:
    return np.where(integers & _TOP, integers ^ _TOP, ~integers)
