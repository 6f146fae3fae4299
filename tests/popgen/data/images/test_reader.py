"""One reader decides what an image file means: orientation, channels, transparency, depth, and what is refused."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from popgen.data.images.reader import UnreadableImage, pixels_of, read_image
from popgen.errors import BrokenFile

CORNER = np.zeros((2, 3), np.uint8)
CORNER[0, 0] = 255  # the upper left pixel is white


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, (0, 0)), (2, (0, 2)), (3, (1, 2)), (4, (1, 0)), (5, (0, 0)), (6, (0, 1)), (7, (2, 1)), (8, (2, 0))],
)
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_images_are_turned_as_their_exif_data_say(orientation: int, corner: tuple[int, int], kind: type) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(CORNER.astype(kind) * (1 if kind == np.uint8 else 257))
    pixels = read_image(encoded(image, exif=exif), "it")
    assert pixels.shape == ((2, 3) if orientation < 5 else (3, 2))
    assert np.argwhere(pixels == 1).tolist() == [list(corner)]
    assert pixels_of(Image.open(io.BytesIO(encoded(image, exif=exif))), upright=False).argmax() == 0


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, 1.0),
        ("L", 51, 0.2),
        ("I;16", 13107, 0.2),
        ("I", 13107, 0.2),
        ("F", 0.2, 0.2),
        ("RGB", (51, 102, 153), [0.2, 0.4, 0.6]),
        ("CMYK", (204, 153, 102, 0), [0.2, 0.4, 0.6]),
        ("HSV", (0, 0, 51), [0.2, 0.2, 0.2]),
        ("YCbCr", (51, 128, 128), [0.2, 0.2, 0.2]),
        ("LA", (0, 0), 1.0),
        ("LA", (51, 255), 0.2),
        ("La", (0, 0), 1.0),
        ("RGBA", (255, 0, 0, 0), [1.0, 1.0, 1.0]),
        ("RGBA", (51, 102, 153, 255), [0.2, 0.4, 0.6]),
        ("RGBA", (0, 0, 0, 51), [0.8, 0.8, 0.8]),
        ("RGBa", (0, 0, 0, 0), [1.0, 1.0, 1.0]),
        ("P", 0, [0.0, 0.0, 0.0]),
        ("PA", (0, 0), [1.0, 1.0, 1.0]),
    ],
)
def test_modes(mode: str, colour: object, expected: object) -> None:
    pixels = pixels_of(Image.new(mode, (3, 2), colour))
    assert pixels.dtype == np.float32
    assert pixels.shape == (2, 3, *np.shape(expected))
    assert np.allclose(pixels, expected, atol=0.003)


def test_what_lies_behind_transparent_pixels_can_be_chosen() -> None:
    red = Image.new("RGBA", (3, 2), (255, 0, 0, 0))
    found = {alpha: pixels_of(red, alpha)[0, 0].tolist() for alpha in ("white", "black", "ignore")}
    assert found == {"white": [1, 1, 1], "black": [0, 0, 0], "ignore": [1, 0, 0]}


def test_a_colour_that_is_marked_as_transparent_becomes_white() -> None:
    for image, clear in [
        (Image.new("L", (3, 2), 7), 7),
        (Image.new("RGB", (3, 2), (7, 8, 9)), (7, 8, 9)),
        (Image.new("P", (3, 2), 0), 0),
        (Image.fromarray(np.full((2, 3), 7, np.uint16)), 7),
    ]:
        content = encoded(image, transparency=clear)
        assert read_image(content, "it").min() == 1
        assert read_image(content, "it", "ignore").max() < 0.05


def test_images_of_16_bits_keep_their_depth() -> None:
    values = np.array([[0, 1, 255], [256, 32768, 65535]], np.uint16)
    assert np.array_equal(read_image(encoded(Image.fromarray(values)), "it"), values.astype(np.float32) / 65535)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (Image.new("I", (3, 2), 70_000), "its mode is I and its values go from 70000 to 70000, where 0 to 65535"),
        (Image.new("I", (3, 2), -1), "values go from -1"),
        (Image.new("F", (3, 2), 200.0), "its mode is F and its values go from 200 to 200, where 0 to 1"),
        (Image.new("F", (3, 2), float("nan")), "values go from nan"),
    ],
)
def test_values_without_a_known_range_are_refused(image: Image.Image, text: str) -> None:
    with pytest.raises(UnreadableImage, match=text):
        pixels_of(image)


class OfAnotherMode(Image.Image):
    """An image in a mode that popgen does not know."""

    mode = "I;12"  # type: ignore[assignment]


def test_an_unknown_mode_is_refused_by_name() -> None:
    with pytest.raises(UnreadableImage, match="its mode is I;12; known are 1, L, RGB"):
        pixels_of(OfAnotherMode())


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG file of that size, which has no pixels."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + header + b"\x00\x00\x00\x08IDAT"


def webp_header(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x00\x01\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02\x00\x00\x00" + size + bytes(64)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (png_header(9000, 9000), "it has 9000 x 9000 pixels, and at most 67 million are read"),
        (png_header(20_000, 20_000), "400000000 pixels"),
        (webp_header(16_000, 16_000), "it has 16000 x 16000 pixels"),
    ],
    ids=["warned of", "refused by Pillow", "allocated when opened"],
)
def test_images_that_are_too_large_are_refused_before_they_are_decoded(content: bytes, text: str) -> None:
    with pytest.raises(BrokenFile) as caught:
        read_image(content, "scan.png")
    assert text in caught.value.why
    assert caught.value.todo == "Scale it down, or cut it into parts."


@pytest.mark.parametrize(
    ("content", "text", "todo"),
    [
        (b"", "the file is empty", "Remove or replace it."),
        (b"hello", "it is none of PNG, JPEG", "Remove or replace it."),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "it is a pointer of Git LFS: the content was not fetched",
            "Run git lfs pull",
        ),
        (b"<!DOCTYPE html><html></html>", "it is a web page", "The link led to a page"),
        (
            b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X",
            "it is an AppleDouble file, which macOS writes",
            "Name the file without ._",
        ),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is none of PNG, JPEG", "Remove or replace it."),
        (encoded(Image.new("RGB", (64, 64)))[:-40], "truncated", "Remove or replace it."),
    ],
    ids=["empty", "text", "LFS", "web page", "AppleDouble", "EPS", "cut"],
)
def test_files_that_are_no_images(content: bytes, text: str, todo: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(BrokenFile) as caught:
        read_image(tmp_path / "x.png", "x.png")
    assert caught.value.what == "x.png is not a readable image"
    assert text in caught.value.why
    assert caught.value.todo.startswith(todo)


def test_a_chunk_takes_no_more_memory_than_the_file_has(tmp_path: Path) -> None:
    content, file = encoded(Image.new("1", (7, 9))), tmp_path / "x.png"
    at = content.index(b"IDAT")
    file.write_bytes(content[: at - 4] + struct.pack(">I", 2**31) + content[at:])
    tracemalloc.start()
    with contextlib.suppress(BrokenFile):
        read_image(file, "x.png")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**24


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x.png").open("wb") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(BrokenFile, match=r"the file is larger than 1 GB\nScale it down"):
        read_image(tmp_path / "x.png", "x.png")


def test_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.png"):
        with pytest.raises(BrokenFile, match="it is not there, or it is not a file"):
            read_image(path, "it")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF"])
def test_damaged_images_are_read_or_refused(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    whole, rng = encoded(Image.fromarray(noise), kind), random.Random(0)
    for _ in range(40):
        content = bytearray(whole[: rng.choice([len(whole), rng.randrange(len(whole))])])
        for _ in range(rng.randrange(1, 9)):
            if content:
                content[rng.randrange(len(content))] = rng.choice([0, 255, rng.randrange(256)])
        try:
            pixels = read_image(bytes(content), "it")
        except BrokenFile:
            continue
        assert pixels.min() >= 0 and pixels.max() <= 1
