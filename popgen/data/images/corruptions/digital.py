"""Digital corruptions of CIFAR-10-C: contrast, elastic transform, pixelation and JPEG compression."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image

from popgen.data.images.corruptions.pixels import Bytes, Seed, Values, draws, mirror, reflect, sampled


def contrast(pixels: Bytes, severity: int, _: Seed) -> Values:
    """Bring each colour closer to its mean over the image."""
    factor = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    x = pixels / 255
    means = x.mean((1, 2), keepdims=True)
    return np.clip((x - means) * factor + means, 0, 1) * 255


def elastic_transform(pixels: Bytes, severity: int, seed: Seed) -> Values:
    """Map the image by a random affine map that is close to the identity, and then move each pixel a little.

    The constants are pixels of images of 32 x 32 pixels.
    """
    length, smoothness, jitter = (
        (0.0, 0.0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    )[severity - 1]
    rows, columns = _affine_positions(pixels.shape, 32 * jitter, seed)
    x = sampled(pixels / 255, rows, columns, mirror)
    count, height, width, _ = pixels.shape
    moves = 32 * length * _smooth_noise((count, 2, height, width), 32 * smoothness, seed)
    rows = np.arange(height)[None, :, None] + moves[:, 0]
    columns = np.arange(width)[None, None] + moves[:, 1]
    return np.clip(sampled(x, rows, columns, reflect), 0, 1) * 255


def _smooth_noise(shape: tuple[int, ...], sigma: float, seed: Seed) -> Values:
    from scipy.ndimage import gaussian_filter

    drawn = draws(seed, 1).uniform(-1, 1, size=shape)
    return gaussian_filter(drawn, (0, 0, sigma, sigma), mode="reflect", truncate=3)


def _affine_positions(shape: tuple[int, ...], jitter: float, seed: Seed) -> tuple[Values, Values]:
    """The rows and columns that each pixel is read from, each of shape (n, h, w).

    The map moves three corners of a square around the centre by up to `jitter` pixels in both directions.
    """
    count, height, width, _ = shape
    centre, reach = np.array([width // 2, height // 2]), min(height, width) // 3
    corners = centre + reach * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = corners + draws(seed, 0).uniform(-jitter, jitter, size=(count, 3, 2))
    # The inverse of the map, from moved corners to corners, says where a pixel comes from.
    ones = np.ones((count, 3, 1))
    inverse = np.linalg.solve(np.concatenate([moved, ones], 2), np.broadcast_to(corners, (count, 3, 2)))
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    positions: Values = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3).astype(np.float64) @ inverse
    positions = positions.reshape(count, height, width, 2)
    return positions[..., 1], positions[..., 0]


def pixelate(pixels: Bytes, severity: int, _: Seed) -> Values:
    """Shrink the image by averaging, and enlarge it again."""
    factor = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    _, height, width, _ = pixels.shape
    small = int(width * factor), int(height * factor)
    box = Image.Resampling.BOX
    return _each(pixels, lambda image: image.resize(small, box).resize((width, height), box))


def jpeg_compression(pixels: Bytes, severity: int, _: Seed) -> Values:
    """Compress and decompress as JPEG."""
    quality = (80, 65, 58, 50, 40)[severity - 1]

    def compress(image: Image.Image) -> Image.Image:
        file = BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _each(pixels, compress)


def _each(pixels: Bytes, change: Callable[[Image.Image], Image.Image]) -> Values:
    """Apply a function of Pillow to each image."""
    grey = pixels.shape[-1] == 1
    images = (Image.fromarray(one[..., 0] if grey else one) for one in pixels)
    return np.stack([np.asarray(change(image), np.float64).reshape(pixels.shape[1:]) for image in images])
