"""Augmentation of training images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from popgen.types import Images

_PAD = 8  # an image moves by up to 1 / _PAD of its height, which is 4 pixels of 32, as in the paper


def augmented(images: Images, kind: str, generator: torch.Generator | None = None) -> Images:
    """Return the images (n, c, h, w) in [0, 1] under an augmentation: none, flip-crop, or augmix, which is both of the others."""
    if kind == "none":
        return images
    images = flip_and_crop(images, generator)
    return augmix(images, generator) if kind == "augmix" else images


def augmix(images: Images, generator: torch.Generator | None = None) -> Images:
    """Mix each image with chains of random operations on it (AugMix, without its consistency loss: arXiv 1912.02781).

    The severity, the width and the operations are torchvision's defaults. Images are rounded to 8 bits.
    """
    from torchvision.transforms import v2  # noqa: PLC0415 - importing torchvision takes a second at every start

    mix = v2.AugMix()
    seed = int(torch.randint(2**31, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mixed = [mix(image) for image in (images * 255).round().byte().cpu()]
    return (torch.stack(mixed).float() / 255).to(images.device)


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
