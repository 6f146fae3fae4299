"""Reads single images into the tensors of a data set: pixels in [0, 1], one size, one number of channels.

The rules, which hold for every source of single images: grey images are repeated to colour where another image of the set is in
colour; with a size, the shorter side is resized to it (bilinear, antialiased) and the centre square kept. 16-bit images keep their
depth, other modes (palettes, transparency) become RGB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from popgen.data.dataset import Part
from popgen.errors import BadInput, BrokenFile

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
MOST_BYTES = 8 * 2**30  # of a data set's images as float32; what is larger is refused before it is read
SIZES = (4, 1024)  # that may be asked for


@dataclass(frozen=True)
class Pictures:
    """Images that are not read yet; `read(i)` gives pixels (h, w) or (h, w, 3) in [0, 1] and a label."""

    count: int
    read: Callable[[int], tuple[np.ndarray, int]]


def gather(name: str, splits: dict[str, Pictures], size: int | None) -> tuple[dict[str, Part], tuple[str, ...]]:
    """Every split's images, and remarks on what was done to them.

    Raises:
        BadInput: images of different sizes without a `size`, or more bytes than `MOST_BYTES`.
        BrokenFile: an image that cannot be read.
    """
    first = _tensor(next(iter(splits.values())).read(0)[0])
    c, h, w = (first if size is None else centre_square(first[None], size)[0]).shape
    check_bytes(name, sum(pictures.count for pictures in splits.values()), (c, h, w))
    parts, seen = {}, _Seen()
    for split, pictures in splits.items():
        images, labels = torch.empty(pictures.count, c, h, w), torch.empty(pictures.count, dtype=torch.long)
        for i in range(pictures.count):
            pixels, labels[i] = pictures.read(i)
            image = seen.look(_tensor(pixels))
            if size is not None:
                image = centre_square(image[None], size)[0]
            elif tuple(image.shape[1:]) != (h, w):
                shapes = sorted([(c, h, w), tuple(image.shape)])
                raise BadInput(
                    f"images of {name!r} differ in shape",
                    f"{shapes}",
                    f"Resize them to one size, or have their centres resized: {name}/size:32.",
                )
            if len(image) > images.shape[1]:
                images = images.expand(-1, 3, -1, -1).clone()
            images[i] = image  # a grey one is repeated
        parts[split] = Part(images, labels)
    most = max(part.inputs.shape[1] for part in parts.values())
    same = {s: Part(p.inputs.expand(-1, most, -1, -1).contiguous(), p.targets) for s, p in parts.items()}
    return same, seen.remarks(size)


class _Seen:
    """What kinds of images there were."""

    def __init__(self) -> None:
        self.sizes: set[tuple[int, int]] = set()
        self.grey = self.colour = 0

    def look(self, image: Tensor) -> Tensor:
        self.sizes.add((image.shape[1], image.shape[2]))
        self.grey += len(image) == 1
        self.colour += len(image) == 3
        return image

    def remarks(self, size: int | None) -> tuple[str, ...]:
        found = []
        if size is not None and self.sizes != {(size, size)}:
            kinds = "of one size" if len(self.sizes) == 1 else f"of {len(self.sizes)} sizes"
            found.append(f"images {kinds}: shorter side resized to {size}, centre {size}x{size} kept")
        if self.grey and self.colour:
            found.append(f"{self.grey} grey images of {self.grey + self.colour} repeated to colour")
        return tuple(found)


def centre_square(images: Tensor, size: int) -> Tensor:
    """Images (n, c, h, w): shorter side resized to `size` (bilinear, antialiased), centre kept, (n, c, size, size).

    >>> centre_square(torch.rand(2, 3, 10, 30), 5).shape
    torch.Size([2, 3, 5, 5])
    """
    h, w = images.shape[-2:]
    if min(h, w) != size:
        scaled = (max(size, round(h * size / min(h, w))), max(size, round(w * size / min(h, w))))
        images = F.interpolate(images, scaled, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)
        h, w = scaled
    top, left = (h - size) // 2, (w - size) // 2
    return images[..., top : top + size, left : left + size].contiguous()


def check_bytes(name: str, count: int, shape: tuple[int, int, int]) -> None:
    """Refuse what would not fit into memory.

    Raises:
        BadInput: says how many bytes, and at which size they would fit.
    """
    c, h, w = shape
    if (needed := 4 * count * c * h * w) > MOST_BYTES:
        fits = next((s for s in (128, 96, 64, 48, 32, 16) if s < min(h, w) and 12 * count * s * s <= MOST_BYTES), 8)
        raise BadInput(
            f"{name!r} needs {needed / 2**30:.0f} GiB of memory",
            f"{count} images of {c}x{h}x{w} as float32; at most {MOST_BYTES / 2**30:.0f} GiB are read",
            f"Have them resized: {name.partition('/size:')[0]}/size:{fits}.",
        )


def read_image(path: Path) -> np.ndarray:
    """A file's pixels, (h, w) or (h, w, 3) in [0, 1].

    Raises:
        BrokenFile: not a readable image.
    """
    try:
        with Image.open(path) as opened:
            return pixels_of(opened)
    except (OSError, ValueError, SyntaxError) as error:  # which PIL raises, by format
        raise BrokenFile(f"{path} is not a readable image", str(error), "Remove or replace it.") from error


def pixels_of(image: Image.Image) -> np.ndarray:
    """The pixels of an image, (h, w) or (h, w, 3) in [0, 1]."""
    deep = image.mode in ("I", "I;16")  # 16 bits; convert("L") would clip them
    array = np.asarray(image if deep else image.convert("L" if image.mode in ("L", "1") else "RGB"))
    return array.astype(np.float32) / np.float32(65535 if deep else 255)


def _tensor(pixels: np.ndarray) -> Tensor:
    tensor = torch.from_numpy(pixels)
    return tensor.unsqueeze(0) if tensor.dim() == 2 else tensor.permute(2, 0, 1)
