"""Gathers single images into tensors in which all have one size, one number of channels and values in [0, 1].

The same rules hold for every source that stores its images one by one. If a size is given, the shorter side is resized
to it (bilinear, antialiased) and the centre square is kept. Grey images are repeated to three channels if another image
of the data set is in colour. `popgen.data.images.reader` reads the pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from popgen.data.dataset import Part
from popgen.errors import BadInput, BrokenFile

MAX_BYTES = 8 * 2**30  # the limit for a data set's images as float32, since more may not fit into memory
SIZES = (4, 1024)  # the smallest and the largest side, in pixels, that `size:` may ask for


@dataclass(frozen=True)
class UnreadImages:
    """Images that are still to be read.

    `read(i)` returns the pixels of image i, of shape (h, w) or (h, w, 3) in [0, 1], and its label.
    """

    count: int
    read: Callable[[int], tuple[np.ndarray, int]]


@dataclass(frozen=True)
class Gathered:
    """The splits that were read, remarks on how images were changed, and the error of each image that was passed over.

    `unreadable` has the index of the image in its split as the key.
    """

    parts: dict[str, Part]
    remarks: tuple[str, ...]
    unreadable: dict[str, dict[int, BrokenFile]]


def gather(name: str, splits: dict[str, UnreadImages], size: int | None, passes_over: bool = False) -> Gathered:
    """Read the images of every split.

    Args:
        name: the data set's name, for errors.
        size: the side in pixels that images are resized and cropped to. If None, all images must have the same size.
        passes_over: leave out images that cannot be read, instead of raising their error.

    Raises:
        BadInput: the images differ in size and no `size` is given, or they need more than `MAX_BYTES`.
        BrokenFile: an image cannot be read, or no image of a split can be read where they are passed over.
    """
    total = sum(unread.count for unread in splits.values())
    reading = _Reading(name, size, total, passes_over)
    parts = {split: reading.read(split, unread) for split, unread in splits.items()}
    channels = max(part.inputs.shape[1] for part in parts.values())
    uniform = {s: Part(p.inputs.expand(-1, channels, -1, -1).contiguous(), p.targets) for s, p in parts.items()}
    return Gathered(uniform, reading.seen.remarks(size), reading.unreadable)


class _Reading:
    """Reads splits one after the other into images of the shape that the first image has."""

    def __init__(self, name: str, size: int | None, total: int, passes_over: bool) -> None:
        self.name, self.size, self.total, self.passes_over = name, size, total, passes_over
        self.shape: tuple[int, int, int] | None = None
        self.seen = _SeenKinds()
        self.unreadable: dict[str, dict[int, BrokenFile]] = {}

    def read(self, split: str, unread: UnreadImages) -> Part:
        """Read one split."""
        errors = self.unreadable.setdefault(split, {})
        images, labels, count = torch.empty(0), torch.empty(unread.count, dtype=torch.long), 0
        for i in range(unread.count):
            try:
                pixels, labels[count] = unread.read(i)
            except BrokenFile as error:
                if not self.passes_over:
                    raise
                errors[i] = error
                continue
            image = self._fitted(_tensor(pixels))
            if count == 0:
                images = torch.empty(unread.count, *(self.shape or image.shape))
            if len(image) > images.shape[1]:
                images = images.expand(-1, 3, -1, -1).clone()
            images[count] = image  # A grey image is broadcast to the channels of `images`.
            count += 1
        if count == 0:
            raise self._nothing("" if split == "all" else f" of {split}", list(errors.values()))
        return Part(images[:count].contiguous(), labels[:count].contiguous())

    def _nothing(self, where: str, errors: list[BrokenFile]) -> BadInput | BrokenFile:
        """The error of a split without images, or without one that can be read."""
        if not errors:
            return BadInput(f"{self.name!r} has no images{where}", "the split is empty", "Fill it or remove it.")
        first = errors[0]
        return BrokenFile(f"no image{where} of {self.name!r} can be read", f"{first.what}: {first.why}", first.todo)

    def _fitted(self, image: Tensor) -> Tensor:
        """The image at the size that is asked for; the first image sets the shape of all others."""
        self.seen.add(image)
        if self.size is not None:
            image = centre_square(image[None], self.size)[0]
        c, h, w = image.shape
        if self.shape is None:
            self.shape = (c, h, w)
            check_bytes(self.name, self.total, self.shape)
        if (h, w) != self.shape[1:]:
            raise BadInput(
                f"images of {self.name!r} differ in shape",
                f"{sorted([self.shape, (c, h, w)])}",
                f"Resize them to one size, or have their centres resized: {self.name}/size:32.",
            )
        return image


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


def _tensor(pixels: np.ndarray) -> Tensor:
    """Convert pixels of shape (h, w) or (h, w, 3) to a tensor of shape (c, h, w)."""
    tensor = torch.from_numpy(pixels)
    return tensor.unsqueeze(0) if tensor.dim() == 2 else tensor.permute(2, 0, 1)
