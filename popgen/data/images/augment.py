"""Augmentation of training images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from popgen.types import Images

_PAD = 8  # an image moves by up to 1 / _PAD of its height, which is 4 pixels of 32, as in the paper


def flip_and_crop(images: Images, generator: torch.Generator | None = None) -> Images:
    """Mirror each image with probability 1/2 and shift it by up to an eighth of its height.

    This is the augmentation of He et al. (arXiv 1512.03385). Pixels that are shifted in from outside are 0. Random
    numbers are drawn on the CPU, so that they are the same on any device.

    >>> flip_and_crop(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 3, 32, 32])
    """
    n, _, height, width = images.shape
    pad, device = max(1, height // _PAD), images.device

    def draw(below: int) -> Tensor:
        """One random whole number in [0, below) for each image, shape (n, 1, 1, 1)."""
        return torch.randint(below, (n, 1, 1, 1), generator=generator, device="cpu").to(device)

    padded = F.pad(torch.where(draw(2) == 0, images.flip(3), images), (pad, pad, pad, pad))
    rows = draw(2 * pad + 1) + torch.arange(height, device=device).view(1, 1, -1, 1)
    columns = draw(2 * pad + 1) + torch.arange(width, device=device)
    indices = torch.arange(n, device=device).view(-1, 1, 1, 1)
    channels = torch.arange(images.shape[1], device=device).view(1, -1, 1, 1)
    return padded[indices, channels, rows, columns]
