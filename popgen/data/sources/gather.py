"""Gathers single images into tensors in which all have one size, one number of channels and values in [0, 1].

The same rules hold for every source that stores its images one by one. If a size is given, the shorter side is resized
to it (bilinear, antialiased) and the centre square is kept. Grey images are repeated to three channels if another image
of the data set is in colour. 16-bit images keep their depth; other modes (palettes, transparency) become RGB.
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
MAX_BYTES = 8 * 2**30  # the limit for a data set's images as float32, since more may not fit into memory
SIZES = (4, 1024)  # the smallest and the largest side, in pixels, that `size:` may ask for


@dataclass(frozen=True)
class UnreadImages:
    """Images that are still to be read.

    `read(i)` returns the pixels of image i, of shape (h, w) or (h, w, 3) in [0, 1], and its label.
    """

    count: int
    read: Callable[[int], tuple[np.ndarray, int]]


def gather(name: str, splits: dict[str, UnreadImages], size: int | None) -> tuple[dict[str, Part], tuple[str, ...]]:
    """Read the images of every split; return the splits, and remarks on how images were changed.

    Args:
        name: the data set's name, for errors.
        size: the side in pixels that images are resized and cropped to. If None, all images must have the same size.

    Raises:
        BadInput: the images differ in size and no `size` is given, or they need more than `MAX_BYTES`.
        BrokenFile: an image cannot be read.
    """
    first = _tensor(next(iter(splits.values())).read(0)[0])
    c, h, w = (first if size is None else centre_square(first[None], size)[0]).shape
    check_bytes(name, sum(unread.count for unread in splits.values()), (c, h, w))
    parts, seen = {}, _SeenKinds()
    for split, unread in splits.items():
        images, labels = torch.empty(unread.count, c, h, w), torch.empty(unread.count, dtype=torch.long)
        for i in range(unread.count):
            pixels, labels[i] = unread.read(i)
            image = _tensor(pixels)
            seen.add(image)
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
            images[i] = image  # A grey image is broadcast to the channels of `images`.
        parts[split] = Part(images, labels)
    channels = max(part.inputs.shape[1] for part in parts.values())
    uniform = {s: Part(p.inputs.expand(-1, channels, -1, -1).contiguous(), p.targets) for s, p in parts.items()}
    return uniform, seen.remarks(size)


class _SeenKinds:
    """The sizes of the images that were read, and how many were grey and in colour."""

    def __init__(self) -> None:
        self.sizes: set[tuple[int, int]] = set()
        self.grey = self.colour = 0

    def add(self, image: Tensor) -> None:
        self.sizes.add((image.shape[1], image.shape[2]))
        self.grey += len(image) == 1
        self.colour += len(image) == 3

    def remarks(self, size: int | None) -> tuple[str, ...]:
        found = []
        if size is not None and self.sizes != {(size, size)}:
            kinds = "of one size" if len(self.sizes) == 1 else f"of {len(self.sizes)} sizes"
            found.append(f"images {kinds}: shorter side resized to {size}, centre {size}x{size} kept")
        if self.grey and self.colour:
            found.append(f"{self.grey} grey images of {self.grey + self.colour} repeated to colour")
        return tuple(found)


def centre_square(images: Tensor, size: int) -> Tensor:
    """Resize the shorter side of images to `size` (bilinear, antialiased) and keep the centre square.

    Images of shape (n, c, h, w) become (n, c, size, size).

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
    """Refuse a data set of more than `MAX_BYTES`.

    Args:
        name: the data set's name, for the error.
        count: the number of its images.
        shape: the shape (c, h, w) of one image.

    Raises:
        BadInput: says how much memory the images need, and a size at which they would fit.
    """
    c, h, w = shape
    if (needed := 4 * count * c * h * w) > MAX_BYTES:
        # The size must fit with three channels: grey images are repeated if a later one is in colour.
        fits = next((s for s in (128, 96, 64, 48, 32, 16) if s < min(h, w) and 12 * count * s * s <= MAX_BYTES), 8)
        raise BadInput(
            f"{name!r} needs {needed / 2**30:.0f} GiB of memory",
            f"{count} images of {c}x{h}x{w} as float32; at most {MAX_BYTES / 2**30:.0f} GiB are read",
            f"Have them resized: {name.partition('/size:')[0]}/size:{fits}.",
        )


def read_image(path: Path) -> np.ndarray:
    """Read the pixels of an image file, of shape (h, w) or (h, w, 3) in [0, 1].

    Raises:
        BrokenFile: the file is not a readable image.
    """
    try:
        with Image.open(path) as opened:
            return pixels_of(opened)
    except (OSError, ValueError, SyntaxError) as error:  # The type depends on the format.
        raise BrokenFile(f"{path} is not a readable image", str(error), "Remove or replace it.") from error


def pixels_of(image: Image.Image) -> np.ndarray:
    """Convert an image of PIL to an array of shape (h, w) or (h, w, 3) in [0, 1]."""
    is_16_bit = image.mode in ("I", "I;16")  # convert("L") would clip these values to 255
    array = np.asarray(image if is_16_bit else image.convert("L" if image.mode in ("L", "1") else "RGB"))
    return array.astype(np.float32) / np.float32(65535 if is_16_bit else 255)


def _tensor(pixels: np.ndarray) -> Tensor:
    """Convert pixels of shape (h, w) or (h, w, 3) to a tensor of shape (c, h, w)."""
    tensor = torch.from_numpy(pixels)
    return tensor.unsqueeze(0) if tensor.dim() == 2 else tensor.permute(2, 0, 1)
