"""Consecutive text for language models: `lines:FILE` is a text file (.txt or .txt.gz), cut into blocks at spaces and line ends.

The splits are consecutive, too: the first three fifths are for training, then comes a fifth for validation and one for the test. A
block is left out between two of them, so that no split ends in the sentence that the next begins with.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import replace
from pathlib import Path

import torch

from popgen.data.dataset import DataSet, Part
from popgen.data.text.tasks import read_task
from popgen.errors import BadInput, BrokenFile, brief
from popgen.tasks import NEXT_TOKEN
from popgen.texts import LONGEST, to_bytes

BLOCK = 512  # bytes
BLOCKS = (32, LONGEST)  # the shortest and the longest block, in bytes
_SHARES = (0.6, 0.8)  # where training and validation end
_FEWEST = 10  # blocks of a file
_BORDERS = (b"\n", b" ")


def load_lines(name: str, file: Path, block: int = BLOCK) -> DataSet:
    """Load a text file as blocks of at most `block` bytes, for the task next-token; its one class is "text".

    `tasks.json` may describe the text (see `popgen.data.text.tasks`).

    Raises:
        BadInput: the file has fewer than ten blocks, or `tasks.json` does not fit.
        BrokenFile: it is not UTF-8, or its compression is damaged.
    """
    content = _read(file)
    blocks = cut_blocks(content, block)
    if len(blocks) < _FEWEST:
        raise BadInput(
            f"{file} has {len(blocks)} blocks of {block} bytes",
            f"{_FEWEST} or more are needed for three splits",
            "Give a longer text, or shorter blocks: lines:FILE/block:64.",
        )
    ends = [0, *(round(share * len(blocks)) for share in _SHARES), len(blocks)]
    starts = [ends[0], ends[1] + 1, ends[2] + 1]
    train, val, test = (_part(blocks[start:end]) for start, end in zip(starts, ends[1:], strict=True))
    remark = (
        f"{len(blocks):,} consecutive blocks of at most {block} bytes: {len(train):,} for training, then {len(val):,} for "
        f"validation and {len(test):,} for the test; one is left out between two splits"
    )
    task = read_task(file, text_stem(file))
    found = DataSet(name, ("text",), train, val, test, (remark, *task.remarks), NEXT_TOKEN)
    return replace(found, description=task.description)


def text_stem(file: Path) -> str:
    """The name of a text file without .txt and .gz.

    >>> text_stem(Path("texts/sea.txt.gz"))
    'sea'
    """
    return file.name.removesuffix(".gz").removesuffix(".txt")


def cut_blocks(content: bytes, longest: int) -> list[str]:
    """Cut UTF-8 text into consecutive blocks of at most `longest` bytes, at a line end or space where there is one.

    The space or line end at a cut belongs to no block; blocks of nothing else are left out.

    >>> cut_blocks(b"one two three", 8)
    ['one two', 'three']
    """
    blocks, begin = [], 0
    while begin < len(content):
        end = min(begin + longest, len(content))
        skipped = 0
        if end < len(content):
            border = max(content.rfind(one, begin + 1, end + 1) for one in _BORDERS)
            end, skipped = (border, 1) if border > begin else (_whole_character(content, begin, end), 0)
        blocks.append(content[begin:end].decode())
        begin = end + skipped
    return [block for block in blocks if block.strip()]


def first_blocks(data: DataSet, count: int) -> DataSet:
    """The data set with the first `count` blocks of its training and validation splits; the test stays as it is.

    Raises:
        BadInput: a split has fewer.
    """
    fewest = min(len(data.train), len(data.val))
    if count > fewest:
        raise BadInput(f"{data.name!r} has {fewest} blocks in a split", f"{count} are asked for", "Ask for fewer.")
    index = torch.arange(count)
    return replace(data, train=data.train.take(index), val=data.val.take(index))


def _read(file: Path) -> bytes:
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        content.decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BrokenFile(f"{file} is no text", brief(error), "Give UTF-8 text, as .txt or .txt.gz.") from error
    return content


def _part(blocks: list[str]) -> Part:
    return Part(to_bytes(blocks), torch.zeros(len(blocks), dtype=torch.long))


def _whole_character(content: bytes, begin: int, end: int) -> int:
    """The last position up to `end` that does not halve a character."""
    while end > begin + 1 and content[end] & 0xC0 == 0x80:
        end -= 1
    return end
