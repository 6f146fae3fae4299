"""Statistics of an image's appearance, without learned weights: brightness, contrast, colour, energy at four scales.

CLIP is trained to recognise the content of an image and to ignore noise, blur or compression. Networks have to be
adapted to exactly these shifts, so the image encoder `clip-tiny+statistics` appends these statistics to CLIP's vector.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from popgen.data.images.variants import luma
from popgen.types import Images

DIM = 48  # number of statistics for each image: 16 for each of three planes
_SIDE = 32  # height and width in pixels to which images are resized
# Added to energies before the logarithm: about the energy of a change by one of 255 levels in every tenth pixel.
_SMALL = 1e-6


def statistics(images: Images) -> Float[Tensor, "n 48"]:
    """Return 16 statistics for each of three planes of each image, scaled to the order of 1.

    The planes are brightness, red minus brightness, and blue minus brightness. The statistics are the mean, the
    standard deviation, and logarithms of: the energy lost by halving the resolution, at four scales and for two
    interpolations (nearest and bilinear); the differences between neighbouring pixels in both directions, at the two
    finest scales; and the size and energy of edges.

    Args:
        images: values in [0, 1], with one or three channels.

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
    """Scaled logarithm of the mean square."""
    return (planes.square().mean((2, 3)) + _SMALL).log() / 4 + 2


def _log_size(planes: Tensor) -> Tensor:
    """Scaled mean of the logarithm of absolute values.

    Unlike the logarithm of an energy, it distinguishes many small differences from few large ones.
    """
    return (planes.abs() + 1e-3).log().mean((2, 3)) / 2 + 2
