"""Images of one set among those of another: equal pixels, near copies, and neither."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from popgen.audit.overlap import Overlap, exact_copies, near_copies, overlap
from popgen.data import load_data
from popgen.data.images.variants import apply_variants

REAL = Path(__file__).parents[3].parent / "shared" / "data"


def pictures(count: int, seed: int, channels: int = 3, side: int = 32) -> torch.Tensor:
    """Smooth random images, as photographs are."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 6, 6, generator=generator)
    return F.interpolate(coarse, (side, side), mode="bicubic", align_corners=False).clamp(0, 1)


def test_equal_pixels_are_found_wherever_they_stand() -> None:
    images, others = pictures(40, 0), pictures(60, 1)
    others[[3, 59]] = images[[7, 11]]
    assert exact_copies(images, others).nonzero().flatten().tolist() == [7, 11]
    assert overlap(images, others) == Overlap(2, 0, 40)
    assert not overlap(images, pictures(60, 1))


def test_values_that_round_to_the_same_8_bits_are_equal_and_the_next_are_not() -> None:
    pixels = (pictures(4, 2) * 255).round() / 255
    assert exact_copies(pixels + 0.4 / 255 * (pixels < 0.9), pixels).all()
    other = pixels.clone()
    other[:, 0, 5, 5] = (other[:, 0, 5, 5] * 255 + 1).remainder(256) / 255
    assert not exact_copies(other, pixels).any()
    assert not exact_copies(pixels[..., :16], pixels).any()


@pytest.mark.parametrize(
    "change", ["jpeg:50", "blur:0.8", "brightness:0.05", "contrast:0.8", "desaturate", "noise:0.03"]
)
def test_near_copies_are_found(change: str) -> None:
    images = pictures(50, 3) * 0.8 + 0.1
    changed = apply_variants(images, [change])
    assert overlap(changed, images) == Overlap(0, 50, 50)
    assert near_copies(F.interpolate(changed, (96, 96), mode="bilinear"), images).all()  # at another size


def test_others_are_not_near_copies() -> None:
    images = pictures(300, 4)
    assert not near_copies(images, pictures(2000, 5)).any()
    assert not near_copies(images.flip(-1), images).any()
    flat = torch.full((3, 3, 32, 32), 0.5)
    assert not near_copies(flat, torch.full((4, 3, 32, 32), 0.7)).any()
    assert near_copies(images[:0], images).tolist() == []
    small = pictures(5, 6, side=8)
    assert not near_copies(small + 0.01, small).any()  # too small to tell


@pytest.mark.real
@pytest.mark.skipif(not (REAL / "cifar10").exists(), reason="real data absent")
def test_jpeg_copies_of_cifar10() -> None:
    """cifar10_jpeg/train was made from 4,000 training images of CIFAR-10, of which cifar10.npz holds 3,924."""
    lossless, jpeg = load_data(f"npz:{REAL}/cifar10/cifar10.npz"), load_data(f"folder:{REAL}/cifar10_jpeg")
    seen = torch.cat([lossless.train.inputs, lossless.val.inputs])
    assert overlap(jpeg.train.inputs, seen) == Overlap(0, 3924, 4000)
    assert overlap(jpeg.val.inputs, seen) == Overlap(0, 0, 1000)
    assert overlap(lossless.test.inputs, seen) == Overlap(0, 0, 1000)
    assert overlap(jpeg.test.inputs, lossless.test.inputs) == Overlap(0, 1000, 2000)
