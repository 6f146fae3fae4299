"""What images look like, whatever they show: brightness, contrast, colour and energy at four scales, without learned weights.

CLIP is trained to see what is in an image and to overlook noise, blur or compression. Those shifts are what a network must be
adapted to, so these numbers can stand beside CLIP's: image encoder `clip-tiny+statistics`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from popgen.data.images.variants import luma
from popgen.types import Images

DIM = 48
_SIDE = 32  # pixels; images are resized to it
_SMALL = 1e-6  # of energies, about that of a change by one of 255 levels in a pixel of ten


def statistics(images: Images) -> Float[Tensor, "n 48"]:
    """Of each image, for brightness and two colour differences: mean, deviation, logarithms of the energy that is lost by halving
    the resolution (four times, by blocks and by smooth interpolation), of differences between neighbours, and of edges. Each
    is of the order of 1.

    >>> statistics(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 48])
    """
    images = images.float().expand(-1, 3, -1, -1)
    if images.shape[-2:] != (_SIDE, _SIDE):
        images = F.interpolate(images, (_SIDE, _SIDE), mode="bilinear", antialias=True, align_corners=False)
    grey = luma(images)
    planes = torch.cat([grey, images[:, :1] - grey, images[:, 2:] - grey], dim=1)
    found = [4 * planes.mean((2, 3)), 4 * planes.std((2, 3))]
    scale = planes
    for octave in range(4):
        low = F.avg_pool2d(scale, 2)
        for mode in ("nearest", "bilinear"):
            corners = False if mode == "bilinear" else None
            found.append(_log_energy(scale - F.interpolate(low, scale_factor=2, mode=mode, align_corners=corners)))
        if octave < 2:
            found += [_log_size(scale.diff(dim=axis)) for axis in (2, 3)]
        scale = low
    kernel = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]], device=images.device).expand(3, 1, 3, 3)
    edges = F.conv2d(planes, kernel, groups=3)
    found += [_log_size(edges), _log_energy(edges)]
    return torch.cat(found, dim=1)


def _log_energy(planes: Tensor) -> Tensor:
    return (planes.square().mean((2, 3)) + _SMALL).log() / 4 + 2


def _log_size(planes: Tensor) -> Tensor:
    """Mean logarithm: unlike an energy's it tells many small differences from few large ones."""
    return (planes.abs() + 1e-3).log().mean((2, 3)) / 2 + 2
