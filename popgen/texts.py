"""Texts as tensors: their UTF-8 bytes, padded with zeros, so that a split of texts is a tensor as a split of images is.

A pair of texts is one text with the character PAIR between the two. What a network reads of a text is made of it by the
network's own inputs (popgen/archs/inputs.py), because only these know the tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

PAIR = "\x1e"  # the record separator of ASCII, which stands in no text
LONGEST = 4096  # bytes of a text that are kept


def to_bytes(texts: Sequence[str], longest: int = LONGEST) -> UInt8[Tensor, "n bytes"]:
    """The UTF-8 bytes (n, width) of texts, padded with zeros to the longest; a text is cut to `longest` bytes.

    >>> to_bytes(["ab", "c"]).tolist()
    [[97, 98], [99, 0]]
    """
    rows = [_cut(text.replace("\x00", " ").encode(), longest) for text in texts]
    array = np.zeros((len(rows), max(map(len, rows), default=0)), np.uint8)
    for row, content in zip(array, rows, strict=True):
        row[: len(content)] = np.frombuffer(content, np.uint8)
    return torch.from_numpy(array)


def to_texts(examples: UInt8[Tensor, "n bytes"]) -> list[str]:
    """The inverse of `to_bytes`.

    >>> to_texts(to_bytes(["ab", "ç"]))
    ['ab', 'ç']
    """
    return [bytes(row).rstrip(b"\x00").decode() for row in examples.numpy(force=True)]


def join_pair(first: str, second: str | None, longest: int = LONGEST) -> str:
    """One text for a pair, or the first text where there is no second. Of a pair above `longest` bytes the longer text is cut first.

    >>> join_pair("one", "two") == f"one{PAIR}two", join_pair("one", None), join_pair("abcdef", "xy", 6) == f"abc{PAIR}xy"
    (True, 'one', True)
    """
    if second is None:
        return first
    one, two = first.encode(), second.encode()
    room = longest - len(PAIR)
    of_one = max(room - len(two), room // 2)
    of_two = room - min(len(one), of_one)
    return f"{_cut(one, of_one).decode()}{PAIR}{_cut(two, of_two).decode()}"


def split_pair(text: str) -> tuple[str, str | None]:
    """The two texts of a pair, or a text and None.

    >>> split_pair("one"), split_pair(f"one{PAIR}two")
    (('one', None), ('one', 'two'))
    """
    first, found, second = text.partition(PAIR)
    return first, second if found else None


def _cut(content: bytes, longest: int) -> bytes:
    """The first bytes of a text, without a character that the cut would halve."""
    return content if len(content) <= longest else content[:longest].decode(errors="ignore").encode()


def same_text(text: str) -> str:
    """What two texts share that are the same but for case and white space.

    >>> same_text(" A  text ") == same_text("a text")
    True
    """
    return " ".join(text.casefold().split())
