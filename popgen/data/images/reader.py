"""Reads one image: the only place that decides orientation, channels, transparency and bit depth, for every source.

An image is turned as its EXIF data say. Palettes, CMYK, YCbCr and HSV become RGB; grey images stay grey. Transparent
pixels are laid on white, unless the data set's name says `alpha:black` or `alpha:ignore`. Images of 16 bits a pixel
keep their depth. A mode that is not known here is refused by its name. Sizes are checked before pixels are decoded,
so that no header can ask for more memory than an image of `MAX_PIXELS` takes.
"""

from __future__ import annotations

import io
import re
import warnings
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from popgen.errors import BrokenFile, brief
from popgen.first_bytes import stray

MAX_PIXELS = 2**26  # 8192 x 8192 pixels, which take 1.3 GB while they are converted to float32
ALPHAS = ("white", "black", "ignore")  # what `alpha:` may ask for
# Formats that Pillow decodes itself. Others may start programs, as EPS starts Ghostscript.
_FORMATS = ("PNG", "JPEG", "MPO", "BMP", "DIB", "WEBP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA", "ICO")
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")  # modes of 16 bits a pixel
_TO_RGB = ("P", "CMYK", "YCbCr", "LAB", "HSV", "RGBX")
_WITH_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")
_KEYED = ("1", "L", "P", "RGB")  # modes in which one colour, or entries of the palette, may be marked as transparent
_MOST_BYTES = 2**30  # a file of the largest image without compression is smaller
_AT_MOST = f"at most {MAX_PIXELS / 10**6:.0f} million are read"
_TOO_LARGE = "Scale it down, or cut it into parts."
_DRAWINGS = {b"<?xml": "an XML file", b"<svg": "an SVG drawing"}  # the first bytes of files that are no pixels
_HEAD_BYTES = 512
_WEBP_HEADER = 30  # bytes of a WebP file up to the end of its canvas's size


class UnreadableImage(Exception):
    """An image that popgen does not read, with the reason and the advice what to do."""

    def __init__(self, why: str, todo: str) -> None:
        self.why, self.todo = why, todo
        super().__init__(f"{why}. {todo}")


def read_image(source: Path | bytes, what: str, alpha: str = "white", mode: str | None = None) -> np.ndarray:
    """Read the pixels of an image file or of its content, of shape (h, w) or (h, w, 3) in [0, 1].

    Args:
        what: names the image in the error.
        alpha: what lies behind transparent pixels, one of `ALPHAS`.
        mode: a mode of Pillow that the image is brought to first. If None, its own mode decides.

    Raises:
        BrokenFile: the image is damaged, too large, or has a mode that is not known here.
    """
    try:
        with warnings.catch_warnings(), _file(source) as file:
            warnings.simplefilter("ignore")  # Pillow warns of damage that either does not matter or is an error below.
            _check_webp(file)
            with Image.open(file, formats=_formats()) as image:
                _check_size(image.size)
                return pixels_of(image if mode in (None, image.mode) else image.convert(mode), alpha)
    except Image.DecompressionBombError as error:
        found = re.search(r"\d+ pixels", str(error))  # Pillow tells the size in its message only.
        why = f"it has {found[0] if found else 'too many pixels'}, and {_AT_MOST}"
        raise BrokenFile(f"{what} is not a readable image", why, _TOO_LARGE) from error
    except UnidentifiedImageError as error:
        raise BrokenFile(f"{what} is not a readable image", *_cause(source)) from error
    except UnreadableImage as error:
        raise BrokenFile(f"{what} is not a readable image", error.why, error.todo) from error
    except Exception as error:  # Pillow's decoders raise errors of many types on damaged images.
        raise BrokenFile(f"{what} is not a readable image", brief(error), "Remove or replace it.") from error


def pixels_of(image: Image.Image, alpha: str = "white", upright: bool = True) -> np.ndarray:
    """Convert an image of Pillow to an array of shape (h, w) or (h, w, 3) in [0, 1].

    Args:
        alpha: what lies behind transparent pixels, one of `ALPHAS`.
        upright: whether the image is turned as its EXIF data say.

    Raises:
        UnreadableImage: it is too large, its mode is not known here, or its values have no known range.

    >>> pixels_of(Image.new("LA", (3, 2), (0, 0))).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    _check_size(image.size)
    if upright and image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in _DEEP:
        return _deep_pixels(image, alpha)
    if image.mode in ("I", "F"):
        return _wide_pixels(image)
    if image.mode in _WITH_ALPHA or (image.mode in _KEYED and "transparency" in image.info):
        image = _without_alpha(image, alpha)
    elif image.mode in _TO_RGB:
        image = image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("L", "RGB"):
        known = ", ".join(("1", "L", "RGB", *_TO_RGB, *_WITH_ALPHA, *_DEEP, "I", "F"))
        raise UnreadableImage(f"its mode is {image.mode}; known are {known}", "Convert it to RGB or to grey.")
    return np.asarray(image).astype(np.float32) / np.float32(255)


def _file(source: Path | bytes) -> BinaryIO:
    """An image's content, opened for reading."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not source.is_file():
        raise UnreadableImage("it is not there, or it is not a file", "Remove or replace it.")
    if source.stat().st_size > _MOST_BYTES:
        raise UnreadableImage(f"the file is larger than {_MOST_BYTES / 2**30:g} GB", _TOO_LARGE)
    # Pillow reads as many bytes as a chunk says it has, and a file, unlike BytesIO, takes the memory before it looks.
    return io.BytesIO(source.read_bytes())


@cache
def _formats() -> list[str]:
    """Those of `_FORMATS` that this Pillow can read."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise UnreadableImage(f"it has {width} x {height} pixels, and {_AT_MOST}", _TOO_LARGE)


def _check_webp(file: BinaryIO) -> None:
    """Refuse a WebP image whose canvas is too large, because Pillow allocates the canvas when it opens the file."""
    head = file.read(_WEBP_HEADER)
    file.seek(0)
    if head[8:16] == b"WEBPVP8X" and len(head) == _WEBP_HEADER:
        _check_size((1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")))


def _cause(source: Path | bytes) -> tuple[str, str]:
    """What a file is that is no image, as far as its first bytes tell, and what to do."""
    todo = "Remove or replace it."
    try:
        with _file(source) as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        return error.strerror or str(error), todo
    if not head:
        return "the file is empty", todo
    if (found := stray(head)) is not None:
        return f"it is {found.kind}: {found.why}", found.todo
    drawing = next((kind for first, kind in _DRAWINGS.items() if head.lstrip().lower().startswith(first)), "")
    return f"it is {drawing or 'none of ' + ', '.join(_formats()) + ', or its beginning is damaged'}", todo


def _deep_pixels(image: Image.Image, alpha: str) -> np.ndarray:
    """The pixels of an image of 16 bits a pixel, where a transparent value may be marked."""
    values = np.asarray(image)
    clear = image.info.get("transparency")
    if isinstance(clear, int) and alpha != "ignore":
        values = np.where(values == clear, 65535 if alpha == "white" else 0, values)
    return values.astype(np.float32) / np.float32(65535)


def _wide_pixels(image: Image.Image) -> np.ndarray:
    """The pixels of an image of 32 bits a pixel: whole numbers are read as 16 bits, floats as values from 0 to 1."""
    values = np.asarray(image)
    highest = 65535 if image.mode == "I" else 1
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= highest):
        why = f"its mode is {image.mode} and its values go from {low:g} to {high:g}, where 0 to {highest} are read"
        raise UnreadableImage(why, "Scale its values, or save it with 8 or 16 bits a channel.")
    return values.astype(np.float32) / np.float32(highest)


def _without_alpha(image: Image.Image, alpha: str) -> Image.Image:
    """An image of mode L or RGB whose transparent pixels are laid on `alpha`."""
    is_grey = image.mode in ("1", "L", "LA", "La")
    both = image.convert("LA" if is_grey else "RGBA")
    opaque = both.convert("L" if is_grey else "RGB")
    if alpha == "ignore":
        return opaque
    canvas = Image.new(opaque.mode, opaque.size, alpha)
    canvas.paste(opaque, mask=both.getchannel("A"))
    return canvas
