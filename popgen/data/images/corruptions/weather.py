"""Weather of CIFAR-10-C: snow, frost, fog and brightness.

Frost is a stand-in. The published images are mixed with photographs of frost, which are not part of this package.
Error rates under `frost_c` must not be compared with published ones. A published ResNet20 errs about 2 points less often
under it than under the photographs (13.3, 30.3 and 45.1 % at severities 1, 3 and 5, against 15.1, 32.4 and 46.8 %).
"""

from __future__ import annotations

import numpy as np

from popgen.data.images.corruptions.blur import streaked
from popgen.data.images.corruptions.pixels import Bytes, Seed, Values, draws, zoomed

_LUMA = np.array([0.299, 0.587, 0.114])
# Each photograph of frost as it enters the published images: the means of red, green and blue; how much the mean of
# a crop of 32 x 32 pixels differs from them; and the standard deviation within a crop. The second stands there twice.
_FROST = np.array(
    [
        [78, 149, 165, 11, 15],
        [198, 203, 212, 9, 18],
        [198, 203, 212, 9, 18],
        [144, 159, 172, 10, 26],
        [103, 114, 126, 16, 34],
    ]
)
_FROST_DECAY = 0.7  # their amplitudes fall with the frequency to the power of -0.6 to -1


def snow(pixels: Bytes, severity: int, seed: Seed) -> Values:
    """Whiten the image, and add flakes that fall in a direction of the image's own, and the same upside down."""
    mean, sigma, zoom, level, radius, blur, kept = (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )[severity - 1]
    x = pixels / 255
    flakes = zoomed(draws(seed, 0).normal(mean, sigma, size=(*x.shape[:3], 1)), zoom)
    flakes[flakes < level] = 0
    angles = draws(seed, 1).uniform(-135, -45, size=len(x))
    flakes = streaked((np.clip(flakes, 0, 1) * 255).astype(np.uint8), int(radius), blur, angles) / 255
    grey = x if x.shape[-1] == 1 else (x @ _LUMA)[..., None]
    whitened = kept * x + (1 - kept) * np.maximum(x, 1.5 * grey + 0.5)
    return np.clip(whitened + flakes + flakes[:, ::-1, ::-1], 0, 1) * 255


def frost(pixels: Bytes, severity: int, seed: Seed) -> Values:
    """Mix the image with a texture in the published shares; the texture stands in for a photograph of frost.

    It is a Gaussian random field in the mean colour, contrast and coarseness of one of the five photographs, which is
    drawn for each image. It has none of the shapes of ice.
    """
    kept, share = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[severity - 1]
    count, height, width, channels = pixels.shape
    chosen = _FROST[draws(seed, 0).randint(len(_FROST), size=count)]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf  # The field's mean is drawn apart.
    spectrum = np.fft.rfft2(draws(seed, 1).normal(size=(count, height, width))) * frequency**-_FROST_DECAY
    field = np.fft.irfft2(spectrum, (height, width))
    field *= (chosen[:, 4] / field.std((1, 2)))[:, None, None]
    field += (chosen[:, 3] * draws(seed, 2).normal(size=count))[:, None, None]
    colour = chosen[:, :3] if channels == 3 else (chosen[:, :3] @ _LUMA)[:, None]
    texture = np.clip(field[..., None] + colour[:, None, None], 0, 255)
    return np.clip(kept * pixels + share * texture, 0, 255)


def fog(pixels: Bytes, severity: int, seed: Seed) -> Values:
    """Add a cloud (a plasma fractal of the image's own), and scale so that the brightest value stays."""
    amount, decay = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))[severity - 1]
    count, height, width, _ = pixels.shape
    x = pixels / 255
    brightest = x.max((1, 2, 3), keepdims=True)
    size = 1 << (max(height, width) - 1).bit_length()
    x = x + amount * _plasma(count, size, decay, seed)[:, :height, :width, None]
    return np.clip(x * brightest / (brightest + amount), 0, 1) * 255


def _plasma(count: int, size: int, decay: float, seed: Seed) -> Values:
    """Draw height maps from 0 to 1 by the diamond-square algorithm, shape (count, size, size).

    Args:
        size: a power of two.
        decay: the square root of how much less the heights vary at each finer step.
    """
    field, step, height, key = np.zeros((count, size, size)), size, 100.0, 0
    while step >= 2:
        half = step // 2
        corners = field[:, ::step, ::step]
        squares = corners + np.roll(corners, -1, 1)
        squares = squares + np.roll(squares, -1, 2)
        field[:, half::step, half::step] = squares / 4 + _bumps(squares.shape, height, (*seed, key))
        middles = field[:, half::step, half::step]
        beside = middles + np.roll(middles, 1, 1) + corners + np.roll(corners, -1, 2)
        field[:, ::step, half::step] = beside / 4 + _bumps(beside.shape, height, (*seed, key + 1))
        below = middles + np.roll(middles, 1, 2) + corners + np.roll(corners, -1, 1)
        field[:, half::step, ::step] = below / 4 + _bumps(below.shape, height, (*seed, key + 2))
        step, height, key = half, height / decay, key + 3
    field -= field.min((1, 2), keepdims=True)
    return field / field.max((1, 2), keepdims=True)


def _bumps(shape: tuple[int, ...], height: float, seed: Seed) -> Values:
    """Random heights; the published code multiplies by `height` twice."""
    return height * draws(seed).uniform(-height, height, size=shape)


def brightness(pixels: Bytes, severity: int, _: Seed) -> Values:
    """Add to the value of hue, saturation and value, which is the largest of red, green and blue."""
    shift = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    x = pixels / 255
    value = x.max(-1, keepdims=True)
    # Hue and saturation stay if all colours are scaled alike. Black has none and becomes grey.
    shares = np.divide(x, value, out=np.ones_like(x), where=value > 0)
    return np.clip(shares * np.clip(value + shift, 0, 1), 0, 1) * 255
