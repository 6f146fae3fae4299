"""Noise of CIFAR-10-C: Gaussian, shot (Poisson) and impulse noise, drawn for each value of each pixel."""

from __future__ import annotations

import numpy as np

from popgen.data.images.corruptions.pixels import Bytes, Seed, Values, draws


def gaussian_noise(pixels: Bytes, severity: int, seed: Seed) -> Values:
    """Add Gaussian noise."""
    sigma = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    x = pixels / 255
    return np.clip(x + draws(seed).normal(scale=sigma, size=x.shape), 0, 1) * 255


def shot_noise(pixels: Bytes, severity: int, seed: Seed) -> Values:
    """Draw each value as the share of photons that arrive, a Poisson number."""
    photons = (500, 250, 100, 75, 50)[severity - 1]
    return np.clip(draws(seed).poisson(pixels / 255 * photons) / photons, 0, 1) * 255


def impulse_noise(pixels: Bytes, severity: int, seed: Seed) -> Values:
    """Set a share of the values, in each colour for itself, to 0 or to 255 with equal probability."""
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    hit = draws(seed, 0).uniform(size=pixels.shape) < share
    extremes = np.where(draws(seed, 1).uniform(size=pixels.shape) < 0.5, 255.0, 0.0)
    return np.where(hit, extremes, pixels.astype(np.float64))
