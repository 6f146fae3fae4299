"""What the corruptions share: arrays of pixels, random numbers, resizing by a factor and sampling between pixels.

All arrays have the shape (n, h, w, c). A corruption maps bytes to values from 0 to 255, which are cut to bytes, not
rounded, as in the published code.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Values = NDArray[np.float64]
Indices = NDArray[np.int64]
Seed = tuple[int, ...]


def draws(seed: Seed, *key: int) -> np.random.RandomState:
    """Return random numbers of their own for each `seed` and `key`.

    NumPy guarantees that a RandomState gives the same numbers in all its versions. Arrays whose first axis counts
    images should be drawn in one call, so that an image's numbers do not depend on how many images follow it.
    """
    words = [word for number in (*seed, *key) for word in (number & 0xFFFFFFFF, number >> 32 & 0xFFFFFFFF)]
    return np.random.RandomState(words)


def zoomed(images: Values, factor: float) -> Values:
    """Enlarge the centre of images by `factor` with linear interpolation, and crop the result to the old size."""
    for axis in (1, 2):
        matrix = _zoom_matrix(images.shape[axis], factor)
        images = np.moveaxis(np.tensordot(matrix, images, (1, axis)), 0, axis)
    return images


def _zoom_matrix(size: int, factor: float) -> Values:
    """The linear map of one axis, of shape (size, size)."""
    from scipy.ndimage import zoom

    kept = int(np.ceil(size / factor))
    start = (size - kept) // 2
    large = zoom(np.eye(size)[start : start + kept], (factor, 1), order=1)
    trim = (len(large) - size) // 2
    return large[trim : trim + size]


def mirror(index: Indices, size: int) -> Indices:
    """Fold indices into an axis whose border pixels are not repeated: 2 1 | 0 1 2 3 | 2 1.

    >>> mirror(np.arange(-2, 6), 4).tolist()
    [2, 1, 0, 1, 2, 3, 2, 1]
    """
    period = 2 * (size - 1)
    folded = index % period
    return np.minimum(folded, period - folded)


def reflect(index: Indices, size: int) -> Indices:
    """Fold indices into an axis whose border pixels are repeated: 1 0 | 0 1 2 3 | 3 2.

    >>> reflect(np.arange(-2, 6), 4).tolist()
    [1, 0, 0, 1, 2, 3, 3, 2]
    """
    folded = index % (2 * size)
    return np.minimum(folded, 2 * size - 1 - folded)


def sampled(images: Values, rows: Values, columns: Values, fold: Callable[[Indices, int], Indices]) -> Values:
    """Read images at positions between pixels, with bilinear interpolation.

    Args:
        rows: the position of each pixel of the result in pixels, shape (n, h, w).
        columns: the same.
        fold: what lies beyond the border, `mirror` or `reflect`.
    """
    count, height, width, _ = images.shape
    which = np.arange(count)[:, None, None]
    top, left = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    above, below = fold(top, height), fold(top + 1, height)
    before, behind = fold(left, width), fold(left + 1, width)
    upper = (1 - right) * images[which, above, before] + right * images[which, above, behind]
    lower = (1 - right) * images[which, below, before] + right * images[which, below, behind]
    return (1 - down) * upper + down * lower
