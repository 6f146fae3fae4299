"""Blur of CIFAR-10-C: defocus, frosted glass, motion and zoom.

The published code calls scikit-image, OpenCV and ImageMagick; what they do is written out here with NumPy and SciPy.
"""

from __future__ import annotations

import numpy as np

from popgen.data.images.corruptions.pixels import Bytes, Seed, Values, draws, zoomed


def defocus_blur(pixels: Bytes, severity: int, _: Seed) -> Values:
    """Convolve with a disk whose edge is softened by a Gaussian of 3 x 3 pixels."""
    from scipy.ndimage import correlate

    radius, softness = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[severity - 1]
    kernel = _disk(radius, softness)
    return np.clip(correlate(pixels / 255, kernel[None, :, :, None], mode="mirror"), 0, 1) * 255


def _disk(radius: float, softness: float) -> Values:
    """The kernel of defocus, shape (5, 5); the published one has 17 x 17 pixels, all others of which are 0."""
    from scipy.ndimage import correlate1d

    steps = np.arange(-2, 3)
    disk = (steps[:, None] ** 2 + steps[None] ** 2 <= radius**2).astype(np.float64)
    gaussian = np.exp(-(np.arange(-1, 2) ** 2) / (2 * softness**2))
    gaussian /= gaussian.sum()
    for axis in (0, 1):
        disk = correlate1d(disk, gaussian, axis, mode="constant")
    return disk / disk.sum()


def glass_blur(pixels: Bytes, severity: int, seed: Seed) -> Values:
    """Blur, move pixels by at most one pixel at random, and blur again.

    The published code means to exchange each pixel with its neighbour above, to the left, or both. What it exchanges
    are views of one array, so that a pixel becomes a copy of that neighbour, which stays as it was; the published
    images were made so. As its loops go upwards and to the left, each copy is taken before its source changes.
    """
    sigma, rounds = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))[severity - 1]
    count, height, width, _ = pixels.shape
    moved = (_gaussian(pixels / 255, sigma) * 255).astype(np.uint8)
    which = np.arange(count)[:, None, None]
    rows, columns = np.arange(2, height)[None, :, None], np.arange(2, width)[None, None]
    for one in range(rounds):
        shift = draws(seed, one).randint(-1, 1, size=(count, 2, height - 2, width - 2))
        neighbours = moved[which, rows + shift[:, 0], columns + shift[:, 1]]  # a copy
        moved[:, 2:, 2:] = neighbours
    return np.clip(_gaussian(moved / 255, sigma), 0, 1) * 255


def _gaussian(images: Values, sigma: float) -> Values:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(images, (0, sigma, sigma, 0), mode="nearest", truncate=4)


def motion_blur(pixels: Bytes, severity: int, seed: Seed) -> Values:
    """Blur each image along a direction of its own, at most 45 degrees from the horizontal."""
    radius, sigma = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))[severity - 1]
    return streaked(pixels, radius, sigma, draws(seed).uniform(-45, 45, size=len(pixels)))


def streaked(pixels: Bytes, radius: int, sigma: float, angles: Values) -> Values:
    """Blur each image along a line, as ImageMagick's motion blur does.

    A value of the result is the mean of the pixels on a line that starts at its own place, in whole pixels. Their
    weights are one half of a Gaussian, and border pixels are repeated beyond the border.

    Args:
        radius: the line has 2 x `radius` + 1 pixels.
        sigma: the standard deviation of the Gaussian in pixels.
        angles: the direction of each image's line in degrees, clockwise from the right, shape (n,).

    Returns:
        Whole numbers from 0 to 255.
    """
    count, height, width, _ = pixels.shape
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    turns = np.deg2rad(angles)[:, None, None]
    which = np.arange(count)[:, None, None]
    rows, columns = np.arange(height)[None, :, None], np.arange(width)[None, None]
    total = np.zeros(pixels.shape)
    for step, weight in zip(steps, weights, strict=True):
        down = np.ceil(step * np.sin(turns) - 0.5).astype(np.int64)
        right = np.ceil(step * np.cos(turns) - 0.5).astype(np.int64)
        total += weight * pixels[which, np.clip(rows + down, 0, height - 1), np.clip(columns + right, 0, width - 1)]
    return np.floor(total + 0.5)


def zoom_blur(pixels: Bytes, severity: int, _: Seed) -> Values:
    """Average over enlargements of the image's centre."""
    largest = (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1]
    factors = np.arange(1, largest, 0.01)
    x = pixels / 255
    total = x + sum(zoomed(x, factor) for factor in factors)
    return np.clip(total / (len(factors) + 1), 0, 1) * 255
