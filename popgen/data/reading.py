"""How the examples of a source are read, which stands behind its name: size: and alpha: for images, block: for text."""

from __future__ import annotations

from dataclasses import dataclass, replace

from popgen.data.folder import is_there
from popgen.data.images.reader import ALPHAS
from popgen.data.names import READING
from popgen.data.sources.gather import SIZES
from popgen.data.text.lines import BLOCK, BLOCKS
from popgen.errors import BadInput

OWN_FILES = ("npz", "text", "folder", "hf", "lines")  # prefixes of the user's own files and of the hub


@dataclass(frozen=True)
class Reading:
    """How the images of a source are read; None stands for what the name does not say."""

    size: int | None = None  # pixels of both sides
    alpha: str | None = None  # what lies behind transparent pixels, one of popgen.data.images.reader.ALPHAS
    block: int | None = None  # bytes of a block of text


def split_reading(source: str) -> tuple[str, Reading]:
    """Split a source into its base and how its images are read.

    Raises:
        BadInput: the size is not a whole number from 4 to 1024, the colour behind transparent pixels is not known, or
            one of them is given twice.

    >>> split_reading("food101/size:32")
    ('food101', Reading(size=32, alpha=None, block=None))
    """
    base, reading = source, Reading()
    while "/" in base and base.rpartition("/")[2].partition(":")[0] in READING:
        shorter, _, last = base.rpartition("/")
        kind, colon, text = last.partition(":")
        if not colon or (base.partition(":")[0] in OWN_FILES and is_there(base.partition(":")[2])):
            break  # This is a path whose last part is called like a modifier.
        if getattr(reading, kind) is not None:
            raise BadInput(f"{source!r} has {kind}: twice", "", "Give it once.")
        if kind == "size":
            reading = replace(reading, size=_parse_size(text, last, shorter, source))
        elif kind == "block":
            reading = replace(reading, block=_parse_block(text, last, shorter, source))
        else:
            reading = replace(reading, alpha=_parse_alpha(text, last, shorter, source))
        base = shorter
    return base, reading


def _parse_size(text: str, last: str, base: str, source: str) -> int:
    if not text.isdecimal() or not SIZES[0] <= int(text) <= SIZES[1]:
        raise BadInput(
            f"{last!r} of {source!r} is not a size",
            f"whole pixels from {SIZES[0]} to {SIZES[1]}, of both sides",
            f"For example {base}/size:32.",
        )
    return int(text)


def _parse_block(text: str, last: str, base: str, source: str) -> int:
    if not text.isdecimal() or not BLOCKS[0] <= int(text) <= BLOCKS[1]:
        raise BadInput(
            f"{last!r} of {source!r} is not the length of a block",
            f"whole bytes from {BLOCKS[0]} to {BLOCKS[1]}",
            f"For example {base}/block:{BLOCK}.",
        )
    return int(text)


def _parse_alpha(text: str, last: str, base: str, source: str) -> str:
    if text not in ALPHAS:
        raise BadInput(
            f"{last!r} of {source!r} is not known",
            f"what lies behind transparent pixels is one of {', '.join(ALPHAS)}",
            f"For example {base}/alpha:black.",
        )
    return text


def check_reading(name: str, prefix: str, reading: Reading) -> None:
    """Refuse how images are read for texts, and how texts are read for images."""
    of_images = [kind for kind in ("size", "alpha") if getattr(reading, kind) is not None]
    if prefix == "lines" and of_images:
        raise BadInput(f"{name!r} has {of_images[0]}:, which is for images", "lines: reads text", "Leave it out.")
    if prefix != "lines" and reading.block is not None:
        raise BadInput(f"{name!r} has block:, which cuts text", "only lines: reads consecutive text", "Leave it out.")
