"""Augmentation of training images."""

from __future__ import annotations

import torch

from popgen.data.images.augment import augmented, augmix, flip_and_crop


def images() -> torch.Tensor:
    return torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_augmix_mixes_each_image_with_changed_ones_and_the_generator_decides() -> None:
    before = torch.get_rng_state()
    made = augmix(images(), seeded())
    assert torch.equal(before, torch.get_rng_state()), "torch's own random numbers are left alone"
    assert made.shape == (6, 3, 32, 32) and made.min() >= 0 and made.max() <= 1
    assert torch.equal(made, augmix(images(), seeded())) and not torch.equal(made, augmix(images(), seeded(2)))
    distance = (made - images()).abs().mean((1, 2, 3))
    assert (distance > 0.002).all() and distance.unique().numel() == 6, "each image has its own chains"


def test_the_names_of_augmentations() -> None:
    assert torch.equal(augmented(images(), "none", seeded()), images())
    assert torch.equal(augmented(images(), "flip-crop", seeded()), flip_and_crop(images(), seeded()))
    order = seeded()
    moved = flip_and_crop(images(), order)
    assert torch.equal(augmented(images(), "augmix", seeded()), augmix(moved, order))
