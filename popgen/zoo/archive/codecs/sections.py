"""Sections: the bytes of one coded network, as a checksum and blocks that zstd compresses where it makes them smaller.

A reader says how many bytes it expects of a block before it is decompressed, and a block that claims another size is refused, so that no
file can make popgen allocate more than the network takes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import zstandard

_QUICK, _STRONG = 1, 16  # levels of zstd; on weights 16 is as small as 19 in a quarter of its time
_NOISE = 0.97  # share of its size that a block keeps at the quick level if the strong one cannot help
_HEAD = struct.Struct("<I")
_STORED = 1 << 31  # flag of a block that zstd does not make smaller


def pack(blocks: Sequence[bytes]) -> bytes:
    """The bytes of blocks, each below 2 GB.

    >>> Sections(pack([bytes(1000), b"ab"])).take(1000) == bytes(1000)
    True
    """
    quick, strong, body = (*(zstandard.ZstdCompressor(level=level) for level in (_QUICK, _STRONG)), bytearray())
    for block in blocks:
        if len(block) >= _STORED:
            raise ValueError(f"a block of {len(block)} bytes is above 2 GB")
        small = quick.compress(block)
        if len(small) < _NOISE * len(block):
            small = min(small, strong.compress(block), key=len)
        stored = len(small) >= len(block)
        body += _HEAD.pack(len(block) | _STORED if stored else len(small)) + (block if stored else small)
    return _HEAD.pack(zlib.crc32(body)) + bytes(body)


class Sections:
    """Reads the blocks of packed bytes in order.

    Raises:
        ValueError: the bytes are damaged; so does `take`.
    """

    def __init__(self, packed: bytes) -> None:
        if len(packed) < _HEAD.size or _HEAD.unpack_from(packed)[0] != zlib.crc32(memoryview(packed)[_HEAD.size :]):
            raise ValueError("the checksum of a coded network is wrong")
        self._packed, self._at = packed, _HEAD.size

    def take(self, size: int) -> bytes:
        """The next block, which has to have `size` bytes."""
        begin = self._at + _HEAD.size
        if begin > len(self._packed):
            raise ValueError("a coded network ends too early")
        (head,) = _HEAD.unpack_from(self._packed, self._at)
        length = head & (_STORED - 1)
        block = self._packed[begin : begin + length]
        if len(block) != length:
            raise ValueError("a coded network ends too early")
        self._at = begin + length
        claimed = length if head & _STORED else _content_size(block)
        if claimed != size:
            raise ValueError(f"a block claims {claimed} bytes, and the network's tensors need {size}")
        if head & _STORED:
            return block
        try:
            content = zstandard.ZstdDecompressor().decompress(block, max_output_size=size)
        except zstandard.ZstdError as error:
            raise ValueError(f"zstd cannot read a block: {error}") from error
        if len(content) != size:
            raise ValueError(f"a block has {len(content)} bytes, and the network's tensors need {size}")
        return content

    def end(self) -> None:
        """Check that nothing is left."""
        if self._at != len(self._packed):
            raise ValueError(f"a coded network has {len(self._packed) - self._at} bytes too many")


def _content_size(frame: bytes) -> int:
    """The size that a frame states; -1 if it states none."""
    try:
        return zstandard.frame_content_size(frame)
    except zstandard.ZstdError as error:
        raise ValueError(f"zstd cannot read a block: {error}") from error
