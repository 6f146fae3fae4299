"""Augmentation of images that networks are trained on."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from popgen.types import Images

_PAD = 8  # an image may move by 1 / _PAD of its side


def flip_and_crop(images: Images, generator: torch.Generator | None = None) -> Images:
    """Each image mirrored or not, and moved by up to an eighth of its side, zeros where nothing was (He et al., arXiv 1512.03385).

    >>> flip_and_crop(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 3, 32, 32])
    """
    n, _, height, width = images.shape
    pad, device = max(1, height // _PAD), images.device

    def draw(below: int) -> Tensor:
        return torch.randint(below, (n, 1, 1, 1), generator=generator, device="cpu").to(device)

    padded = F.pad(torch.where(draw(2) == 0, images.flip(3), images), (pad, pad, pad, pad))
    rows = draw(2 * pad + 1) + torch.arange(height, device=device).view(1, 1, -1, 1)
    columns = draw(2 * pad + 1) + torch.arange(width, device=device)
    places = torch.arange(n, device=device).view(-1, 1, 1, 1)
    channels = torch.arange(images.shape[1], device=device).view(1, -1, 1, 1)
    return padded[places, channels, rows, columns]
