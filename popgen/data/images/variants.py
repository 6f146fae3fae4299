"""Variants of a data set, appended to its name: `digits/rotate:45`, `cifar10/noise:0.06`, `digits/rotate:30/invert`.

Each variant maps images in [0, 1] to images in [0, 1] of the same shape. Random numbers come from a fixed seed, so that
a name means the same pixels everywhere. Several are families of corruptions of Hendrycks and Dietterich (arXiv
1903.12261), with a strength of one's own choice. Those whose names end with `_c` are the published ones of CIFAR-10-C.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from popgen.data.images.corruptions.kinds import corrupt
from popgen.data.images.corruptions.pixels import draws
from popgen.data.names import ALL_CORRUPTIONS, CORRUPTIONS, MIXED, VARIANT_RANGES
from popgen.errors import BadInput, unknown_name
from popgen.types import Images

NOISE_SEED = 20_402  # arbitrary, but fixed: another seed would give every noisy data set other pixels


def rotate(images: Images, degrees: float) -> Images:
    """Rotate counter-clockwise about the centre, with bilinear interpolation; the corners are filled with 0."""
    # This is torchvision's rotation of tensors, bit for bit; importing torchvision takes a second at every start.
    height, width = images.shape[-2:]
    angle = math.radians(-degrees)
    turn = torch.tensor([[math.cos(angle), math.sin(angle), 0.0], [-math.sin(angle), math.cos(angle), 0.0]])
    positions = torch.ones(1, height, width, 3)  # x, y and 1 of each pixel, from the centre
    positions[..., 0] = torch.linspace(0.5 - 0.5 * width, 0.5 * width - 0.5, width)
    positions[..., 1] = torch.linspace(0.5 - 0.5 * height, 0.5 * height - 0.5, height)[:, None]
    scaled = turn.T[None] / torch.tensor([0.5 * width, 0.5 * height])
    grid = positions.view(1, -1, 3).bmm(scaled).view(1, height, width, 2)
    return F.grid_sample(images, grid.expand(len(images), -1, -1, -1), align_corners=False)


def invert(images: Images, _: float) -> Images:
    """Replace each value x by 1 - x."""
    return 1 - images


def blur(images: Images, sigma: float) -> Images:
    """Blur with a Gaussian of standard deviation `sigma` in pixels."""
    from torchvision.transforms import functional as TF

    size = 2 * max(1, round(2 * sigma)) + 1
    return TF.gaussian_blur(images, [size, size], [sigma, sigma])


def edges(images: Images, _: float) -> Images:
    """The magnitude of the Sobel gradient, scaled so that a step from 0 to 1 gives 1."""
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 4
    channels = images.shape[1]
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    gx = F.conv2d(padded, kernel.expand(channels, 1, 3, 3), groups=channels)
    gy = F.conv2d(padded, kernel.T.expand(channels, 1, 3, 3), groups=channels)
    return (gx.square() + gy.square()).sqrt().clamp(0, 1)


def mirror(images: Images, _: float) -> Images:
    """Exchange left and right."""
    return images.flip(-1)


def noise(images: Images, sigma: float, seed: int = NOISE_SEED) -> Images:
    """Add Gaussian noise of standard deviation `sigma`, the same for all sets of equal shape, and clip to [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return (images + sigma * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def contrast(images: Images, factor: float) -> Images:
    """Multiply the distance of each value from mid grey (0.5) by `factor` and clip to [0, 1]."""
    return (0.5 + factor * (images - 0.5)).clamp(0, 1)


def threshold(images: Images, level: float) -> Images:
    """Replace each value by 1 if it is above `level`, else by 0."""
    return (images > level).float()


def brightness(images: Images, shift: float) -> Images:
    """Add `shift` to each value and clip to [0, 1]."""
    return (images + shift).clamp(0, 1)


def gamma(images: Images, exponent: float) -> Images:
    """Raise each value to the power of `exponent`; above 1 images get darker, below 1 brighter."""
    return images.clamp(0, 1) ** exponent


def pixelate(images: Images, size: float) -> Images:
    """Replace each square of `size` x `size` pixels by its mean."""
    return F.interpolate(_shrunk(images, size), tuple(images.shape[-2:]), mode="nearest")


def posterize(images: Images, levels: float) -> Images:
    """Round to `levels` equally spaced values, of which 0 and 1 are the outermost."""
    steps = round(levels) - 1
    return (images * steps).round() / steps


def desaturate(images: Images, share: float) -> Images:
    """Mix each image with its grey values (ITU-R BT.601 luma); a `share` of 1 leaves only these."""
    return torch.lerp(images, luma(images).expand_as(images), share)


def chroma(images: Images, factor: float) -> Images:
    """Reduce the resolution of colour, but not of brightness, to 1 / `factor`; grey images do not change."""
    grey = luma(images)
    coarse = _shrunk(images - grey, factor)
    return (grey + F.interpolate(coarse, tuple(images.shape[-2:]), mode="bilinear", align_corners=False)).clamp(0, 1)


def impulse(images: Images, share: float, seed: int = NOISE_SEED) -> Images:
    """Set a `share` of the pixels to black or white (salt and pepper), the same pixels for all sets of equal shape."""
    draw = torch.rand(len(images), 1, *images.shape[-2:], generator=torch.Generator().manual_seed(seed))
    return torch.where(draw < share / 2, 0.0, torch.where(draw < share, 1.0, images))


def motion(images: Images, length: float) -> Images:
    """Average over a horizontal line of `length` pixels (motion blur); border pixels are repeated beyond the border."""
    size = round(length)
    padded = F.pad(images, ((size - 1) // 2, size // 2, 0, 0), mode="replicate")
    return F.avg_pool2d(padded, (1, size), stride=1)


def jpeg(images: Images, quality: float) -> Images:
    """Compress and decompress as JPEG of a `quality` from 1 to 100."""
    from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg

    mode = ImageReadMode.GRAY if images.shape[1] == 1 else ImageReadMode.RGB
    pixels = (images * 255).round().to(torch.uint8)
    return torch.stack([decode_jpeg(encode_jpeg(one, round(quality)), mode) for one in pixels]).float() / 255


def _shrunk(images: Images, factor: float) -> Images:
    """Reduce the resolution to 1 / `factor` by averaging over squares."""
    height, width = (max(1, round(side / factor)) for side in images.shape[-2:])
    return F.adaptive_avg_pool2d(images, (height, width))


def luma(images: Images) -> Images:
    """The grey values (ITU-R BT.601 luma) of colour images, shape (n, 1, h, w); grey images are returned as they are.

    >>> luma(torch.ones(1, 3, 2, 2)).shape
    torch.Size([1, 1, 2, 2])
    """
    if images.shape[1] != 3:
        return images
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)


_FUNCTIONS: tuple[Callable[..., Tensor], ...] = (
    rotate,
    invert,
    blur,
    edges,
    mirror,
    noise,
    contrast,
    threshold,
    brightness,
    gamma,
    pixelate,
    posterize,
    desaturate,
    chroma,
    impulse,
    motion,
    jpeg,
)
_RANDOM = (noise, impulse)  # the functions that also take the seed of their random numbers


def _corruption(kind: str) -> Callable[..., Tensor]:
    """The variant of one corruption of CIFAR-10-C."""
    return lambda images, severity, seed=NOISE_SEED: corrupt(images, kind, int(severity), seed)


# For each name: the function, the default of its argument (None if the argument must be given), and the argument's
# lowest and highest value.
VARIANTS: dict[str, tuple[Callable[..., Tensor], float | None, float, float]] = {
    name: (function, *VARIANT_RANGES[name])
    for name, function in zip(VARIANT_RANGES, (*_FUNCTIONS, *map(_corruption, CORRUPTIONS)), strict=True)
}


def parse_variant(text: str) -> tuple[str, float]:
    """Parse one variant other than `mixed` into its name and its argument.

    Raises:
        NotFound: there is no such variant.
        BadInput: the argument is missing, is not a number, or is out of its range.

    >>> parse_variant("rotate:45"), parse_variant("snow_c:5")
    (('rotate', 45.0), ('snow_c', 5.0))
    """
    name, colon, argument = text.partition(":")
    if name not in VARIANTS:
        raise unknown_name("variant", name, VARIANTS, "Variants stand behind the data set: digits/rotate:45.")
    _, default, low, high = VARIANTS[name]
    kind = "whole number" if name in CORRUPTIONS else "number"
    if not colon:
        if default is None:
            example = f"For example {name}:{5 if name in CORRUPTIONS else 45}."
            raise BadInput(f"variant {name!r} needs a {kind}", f"from {low:g} to {high:g}", example)
        return name, default
    try:
        value = float(argument)
    except ValueError:
        value = float("nan")
    if not low <= value <= high or (name in CORRUPTIONS and not value.is_integer()):
        raise BadInput(
            f"variant {text!r}: {argument!r} is not in its range", f"{name} takes a {kind} from {low:g} to {high:g}", ""
        )
    return name, value


def is_mixed(text: str) -> bool:
    """Whether a variant is a mixture, `mixed:A+B+C`, which gives each image one of several variants.

    >>> is_mixed("mixed:noise:0.06+jpeg:20"), is_mixed("jpeg:20")
    (True, False)
    """
    return text.partition(":")[0] == MIXED


def parse_mixed(text: str) -> list[str]:
    """Parse a mixture into its variants; `all_c:SEVERITY` stands for the fifteen corruptions of CIFAR-10-C.

    Raises:
        NotFound: there is no such variant.
        BadInput: there are fewer than two variants, or the argument of one of them is missing or wrong.

    >>> parse_mixed("mixed:noise:0.06+jpeg:20+snow_c:5"), len(parse_mixed("mixed:all_c:5"))
    (['noise:0.06', 'jpeg:20', 'snow_c:5'], 15)
    """
    found: list[str] = []
    for one in text.partition(":")[2].split("+"):
        name, colon, severity = one.partition(":")
        found += [kind + colon + severity for kind in CORRUPTIONS] if name == ALL_CORRUPTIONS else [one]
    if len(found) < 2:
        raise BadInput(
            f"{text!r} names fewer than two variants",
            "it gives each image one of several, which are joined by +",
            f"For example {MIXED}:noise:0.06+jpeg:20, or {MIXED}:{ALL_CORRUPTIONS}:5 for all of CIFAR-10-C.",
        )
    if any(map(is_mixed, found)):
        raise BadInput(f"{text!r} is a mixture of mixtures", "", f"Join all variants behind one {MIXED}: by +.")
    for one in found:
        parse_variant(one)
    return found


def check_variant(text: str) -> None:
    """Refuse a variant or a mixture that cannot be applied.

    Raises:
        NotFound, BadInput: as `parse_variant` and `parse_mixed`.
    """
    if is_mixed(text):
        parse_mixed(text)
    else:
        parse_variant(text)


def apply_variants(images: Images, variants: list[str], seed: int = NOISE_SEED) -> Images:
    """Apply variants, or mixtures of them, one after the other.

    Args:
        seed: the seed of all random numbers. The default is that of data set names; training may draw noise anew with
            others.

    Raises:
        NotFound: there is no such variant.
        BadInput: an argument is missing or wrong, or a variant is not for images of this shape.

    >>> grey = torch.full((1, 1, 8, 8), 0.5)
    >>> torch.equal(apply_variants(grey, ["noise:0.1"]), apply_variants(grey, ["noise:0.1"], seed=1))
    False
    """
    for text in variants:
        if is_mixed(text):
            images = _mix(images, parse_mixed(text), seed)
            continue
        name, value = parse_variant(text)
        function = VARIANTS[name][0]
        random = function in _RANDOM or name in CORRUPTIONS
        changed = function(images, value, seed) if random else function(images, value)
        images = changed.clamp(0, 1)  # Rounding may put sums of pixels just above 1.
    return images


def _mix(images: Images, variants: list[str], seed: int) -> Images:
    """Apply to each image one of the variants, all of which are drawn with equal probability."""
    chosen = torch.from_numpy(draws((seed,)).randint(len(variants), size=len(images)))
    mixed = images.clone()
    for number in chosen.unique().tolist():
        mine = chosen == number
        mixed[mine] = apply_variants(images[mine], [variants[number]], seed)
    return mixed
