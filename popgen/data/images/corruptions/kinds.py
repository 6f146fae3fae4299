"""Applies a corruption of CIFAR-10-C by its name and severity.

The constants and the order of operations are those of the published code, make_cifar_c.py of hendrycks/robustness
(Apache License 2.0), for images of 32 x 32 pixels; images of other sizes are changed by the same constants. The code is
popgen's own. Random numbers are others than those of the published images, and frost is a stand-in (weather.py).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from popgen.data.images.corruptions import blur, digital, noise, weather
from popgen.data.images.corruptions.pixels import Bytes, Seed, Values
from popgen.data.names import CORRUPTIONS
from popgen.errors import BadInput
from popgen.types import Images

_SMALLEST = 8  # pixels; the shifts of these corruptions are as long as smaller images
_TOGETHER = 1000  # images; more at once would need gigabytes of memory
_FUNCTIONS: tuple[Callable[[Bytes, int, Seed], Values], ...] = (
    noise.gaussian_noise,
    noise.shot_noise,
    noise.impulse_noise,
    blur.defocus_blur,
    blur.glass_blur,
    blur.motion_blur,
    blur.zoom_blur,
    weather.snow,
    weather.frost,
    weather.fog,
    weather.brightness,
    digital.contrast,
    digital.elastic_transform,
    digital.pixelate,
    digital.jpeg_compression,
)
_KINDS = dict(zip(CORRUPTIONS, _FUNCTIONS, strict=True))


def corrupt(images: Images, kind: str, severity: int, seed: int) -> Images:
    """Corrupt images; the result has whole numbers of 255ths.

    Args:
        kind: one of popgen.data.names.CORRUPTIONS.
        severity: from 1 to 5.
        seed: the seed of random numbers. Each image has its own, which depend on its position alone.

    Raises:
        BadInput: the images are neither grey nor of three colours, or are too small.

    >>> images = torch.full((2, 3, 32, 32), 0.5)
    >>> corrupt(images, "brightness_c", 5, seed=0)[0, 0, 0, :2].mul(255).tolist()
    [204.0, 204.0]
    """
    channels, height, width = images.shape[1:]
    if channels not in (1, 3) or min(height, width) < _SMALLEST:
        raise BadInput(
            f"{kind} cannot be applied to images of {channels} x {height} x {width} values",
            f"corruptions of CIFAR-10-C are for 1 or 3 channels and at least {_SMALLEST} x {_SMALLEST} pixels",
            "Use another variant, or size:32 for files of your own.",
        )
    pixels = (images * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    changed = np.empty_like(pixels)
    for block, start in enumerate(range(0, len(pixels), _TOGETHER)):
        part = slice(start, start + _TOGETHER)
        changed[part] = _KINDS[kind](pixels[part], severity, (seed, block)).astype(np.uint8)
    return torch.from_numpy(changed).permute(0, 3, 1, 2).contiguous().to(images) / 255
