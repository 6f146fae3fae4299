"""Variants of a data set, written behind its name: `digits/rotate:45`, `cifar10/noise:0.06`, `digits/rotate:30/invert`.

Each maps images in [0, 1] to images in [0, 1] of the same shape, without randomness, so that a name means the same
pixels everywhere. Corruptions take their severity as a number, after the families of Hendrycks and Dietterich
(arXiv 1903.12261).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from popgen.errors import BadInput, unknown_name
from popgen.types import Images


def rotate(images: Images, degrees: float) -> Images:
    """Counter-clockwise about the centre, bilinear; corners are filled with 0."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as TF  # takes a second, which the workers of a search are spared

    return TF.rotate(images, degrees, InterpolationMode.BILINEAR)


def invert(images: Images, _: float) -> Images:
    """1 - x."""
    return 1 - images


def blur(images: Images, sigma: float) -> Images:
    """Gaussian blur; `sigma` in pixels."""
    from torchvision.transforms import functional as TF

    size = 2 * max(1, round(2 * sigma)) + 1
    return TF.gaussian_blur(images, [size, size], [sigma, sigma])


def edges(images: Images, _: float) -> Images:
    """Magnitude of the Sobel gradient, scaled so that a full step edge gives 1."""
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 4
    channels = images.shape[1]
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    gx = F.conv2d(padded, kernel.expand(channels, 1, 3, 3), groups=channels)
    gy = F.conv2d(padded, kernel.T.expand(channels, 1, 3, 3), groups=channels)
    return (gx.square() + gy.square()).sqrt().clamp(0, 1)


def mirror(images: Images, _: float) -> Images:
    """Left and right exchanged."""
    return images.flip(-1)


def noise(images: Images, sigma: float) -> Images:
    """Gaussian noise of standard deviation `sigma`, the same for the same image set, clipped to [0, 1]."""
    generator = torch.Generator().manual_seed(20_402)
    return (images + sigma * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def contrast(images: Images, factor: float) -> Images:
    """Distance from the mid grey multiplied by `factor`, clipped to [0, 1]."""
    return (0.5 + factor * (images - 0.5)).clamp(0, 1)


def threshold(images: Images, level: float) -> Images:
    """1 where x > level, else 0."""
    return (images > level).float()


def brightness(images: Images, shift: float) -> Images:
    """x + `shift`, clipped to [0, 1]."""
    return (images + shift).clamp(0, 1)


def gamma(images: Images, exponent: float) -> Images:
    """x to the power of `exponent`: above 1 darker, below 1 brighter."""
    return images.clamp(0, 1) ** exponent


def pixelate(images: Images, size: float) -> Images:
    """Replaced by squares of `size` pixels, the means of what they cover."""
    return F.interpolate(_shrunk(images, size), tuple(images.shape[-2:]), mode="nearest")


def posterize(images: Images, levels: float) -> Images:
    """Rounded to `levels` equally spaced values."""
    steps = round(levels) - 1
    return (images * steps).round() / steps


def desaturate(images: Images, share: float) -> Images:
    """Mixed with its grey values (ITU-R BT.601 luma) by `share`."""
    return torch.lerp(images, luma(images).expand_as(images), share)


def chroma(images: Images, factor: float) -> Images:
    """Colour differences kept at 1 / `factor` of the resolution, brightness at all of it; grey images stay."""
    grey = luma(images)
    coarse = _shrunk(images - grey, factor)
    return (grey + F.interpolate(coarse, tuple(images.shape[-2:]), mode="bilinear", align_corners=False)).clamp(0, 1)


def impulse(images: Images, share: float) -> Images:
    """A `share` of the pixels set to black or white (salt and pepper), the same ones for the same image set."""
    draw = torch.rand(len(images), 1, *images.shape[-2:], generator=torch.Generator().manual_seed(20_402))
    return torch.where(draw < share / 2, 0.0, torch.where(draw < share, 1.0, images))


def motion(images: Images, length: float) -> Images:
    """Mean over a horizontal line of `length` pixels, borders repeated."""
    size = round(length)
    padded = F.pad(images, ((size - 1) // 2, size // 2, 0, 0), mode="replicate")
    return F.avg_pool2d(padded, (1, size), stride=1)


def jpeg(images: Images, quality: float) -> Images:
    """Compressed and decompressed as JPEG of that quality, 1 to 100."""
    from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg

    mode = ImageReadMode.GRAY if images.shape[1] == 1 else ImageReadMode.RGB
    pixels = (images * 255).round().to(torch.uint8)
    return torch.stack([decode_jpeg(encode_jpeg(one, round(quality)), mode) for one in pixels]).float() / 255


def _shrunk(images: Images, factor: float) -> Images:
    """Means over squares, at 1 / `factor` of the resolution."""
    height, width = (max(1, round(side / factor)) for side in images.shape[-2:])
    return F.adaptive_avg_pool2d(images, (height, width))


def luma(images: Images) -> Images:
    """Grey values (n, 1, h, w) of images in colour (ITU-R BT.601); grey images as they are.

    >>> luma(torch.ones(1, 3, 2, 2)).shape
    torch.Size([1, 1, 2, 2])
    """
    if images.shape[1] != 3:
        return images
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)


# name -> (function, default argument or None when it must be given, lowest, highest)
VARIANTS: dict[str, tuple[Callable[[Tensor, float], Tensor], float | None, float, float]] = {
    "rotate": (rotate, None, -360, 360),
    "invert": (invert, 0, 0, 0),
    "blur": (blur, 0.8, 0.05, 20),
    "edges": (edges, 0, 0, 0),
    "mirror": (mirror, 0, 0, 0),
    "noise": (noise, 0.1, 0, 2),
    "contrast": (contrast, 0.5, 0, 5),
    "threshold": (threshold, 0.5, 0, 1),
    "brightness": (brightness, 0.2, -1, 1),
    "gamma": (gamma, 1.5, 0.1, 10),
    "pixelate": (pixelate, 2, 1, 64),
    "posterize": (posterize, 6, 2, 256),
    "desaturate": (desaturate, 1, 0, 1),
    "chroma": (chroma, 2, 1, 64),
    "impulse": (impulse, 0.03, 0, 1),
    "motion": (motion, 4, 1, 32),
    "jpeg": (jpeg, 50, 1, 100),
}


def parse_variant(text: str) -> tuple[str, float]:
    """Name and argument of one variant.

    Raises:
        NotFound: no such variant.
        BadInput: the argument is missing, not a number, or out of its range.

    >>> parse_variant("rotate:45")
    ('rotate', 45.0)
    """
    name, colon, argument = text.partition(":")
    if name not in VARIANTS:
        raise unknown_name("variant", name, VARIANTS, "Variants stand behind the data set: digits/rotate:45.")
    _, default, low, high = VARIANTS[name]
    if not colon:
        if default is None:
            raise BadInput(f"variant {name!r} needs a number", f"from {low:g} to {high:g}", f"For example {name}:45.")
        return name, default
    try:
        value = float(argument)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise BadInput(
            f"variant {text!r}: {argument!r} is not in its range", f"{name} takes a number from {low:g} to {high:g}", ""
        )
    return name, value


def apply_variants(images: Images, variants: list[str]) -> Images:
    """The variants one after the other."""
    for text in variants:
        name, value = parse_variant(text)
        images = VARIANTS[name][0](images, value).clamp(0, 1)  # sums of pixels may miss 1 by their last bit
    return images
