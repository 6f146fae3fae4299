"""The codes of the training checkpoints, which a generator keeps: latents of the VAE, and residual codes."""

from __future__ import annotations

import torch

from popgen.generator.generator import Generator
from popgen.generator.training.data import TrainingData
from popgen.types import Latents

# Least standard deviation of an architecture's latents, in units of the standard deviation over all architectures.
_LEAST_STD = 0.05


@torch.no_grad()
def store_codes(generator: Generator, data: TrainingData) -> dict[str, Latents]:
    """Encode all training checkpoints and store their standardised latents; returns the VAE's latents (n, k, d).

    Latents are standardised for each architecture, because those of a residual network may lie ten times closer
    together than another's: a step of the same size would do nothing to one, and destroy the other.
    """
    raw = {
        name: torch.cat([generator.vae.encode(generator.moved[name], x)[0] for x in own.x.chunks()])
        for name, own in data.archs.items()
    }
    everywhere = torch.cat(list(raw.values())).std(0)
    generator.latent_mean = torch.stack([z.mean(0) for z in raw.values()])
    stds = torch.stack([z.std(0) for z in raw.values()])
    generator.latent_std = torch.maximum(stds, _LEAST_STD * everywhere).clamp_min(1e-6)
    generator.prior.set_latents(torch.cat(list(raw.values())))
    generator.codes = torch.cat([generator.standardise(name, z) for name, z in raw.items()])
    return raw


@torch.no_grad()
def store_residual_codes(generator: Generator, data: TrainingData) -> None:
    """Store the coordinates of each training checkpoint's reconstruction error on the residual's components."""
    first, codes = 0, []
    for name, own in data.archs.items():
        latents = generator.codes[first : first + len(own.records)]
        first += len(own.records)
        codes += [
            generator.residual(name, own.scaling.denormalise(own.x[[i]]), latents[i : i + 1])
            for i in range(len(own.records))
        ]
    generator.residual_codes = torch.cat(codes)
