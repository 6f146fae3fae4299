"""The part of a generator that the workers of a search need.

It imports neither the encoders nor the prior, whose imports take seconds.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.generator.model.vae import WeightVAE
from popgen.weights import Scaling
from popgen.weights.mask import Mask
from popgen.weights.transplant import Transplant


class WeightDecoder(Protocol):
    """Maps flat vectors to weights of one architecture.

    The decoders below implement it, and so do those in popgen.weights.mixing.
    """

    @property
    def spec(self) -> ArchSpec:
        """The architecture of the decoded networks."""
        ...

    def weights(self, vector: np.ndarray | Tensor) -> Tensor:
        """Return the weights (p,) of a vector (dim,)."""
        ...

    def weights_of_many(self, vectors: np.ndarray | Tensor) -> Tensor:
        """Return the weights (n, p) of vectors (n, dim)."""
        ...

    def to(self, device: str) -> Self:
        """Return a copy on another device."""
        ...


@dataclass(frozen=True)
class Decoder:
    """Maps a flat standardised latent to weights of one architecture."""

    spec: ArchSpec
    scaling: Scaling
    vae: WeightVAE
    mean: Tensor  # (k, d), mean of the architecture's latents
    std: Tensor  # (k, d), their standard deviation
    mask: Mask | None = None  # values that are generated, the others are fixed; None: all are generated

    def weights(self, vector: np.ndarray | Tensor) -> Tensor:
        """Return the weights (p,) of a latent (k * d,)."""
        return self.weights_of_many(vector[None])[0]

    @torch.no_grad()
    def weights_of_many(self, vectors: np.ndarray | Tensor) -> Tensor:
        """Return the weights (n, p) of latents (n, k * d)."""
        latents = torch.tensor(vectors) if isinstance(vectors, np.ndarray) else vectors
        latents = latents.to(self.mean).view(-1, *self.mean.shape)
        decoded = self.scaling.denormalise(
            self.vae.decode(self.scaling.moved(self.spec), latents * self.std + self.mean)
        )
        return decoded if self.mask is None else self.mask.compose(decoded)

    @property
    def reference(self) -> Tensor:
        """Weights (1, p) of the reference, from which the zoo's networks differ."""
        zeros = torch.zeros(1, self.scaling.moved(self.spec).size, device=self.mean.device)
        found = self.scaling.denormalise(zeros)
        return found if self.mask is None else self.mask.compose(found)

    def to(self, device: str) -> Decoder:
        """Return a copy on another device."""
        mean, std = self.mean.to(device), self.std.to(device)
        mask = None if self.mask is None else self.mask.to(device)
        return Decoder(self.spec, self.scaling.to(device), copy.deepcopy(self.vae).to(device), mean, std, mask)


@dataclass(frozen=True)
class AnchoredDecoder:
    """Maps a flat standardised latent and a strength to weights: the reference, plus the strength times what is decoded beside it.

    Strength 0 is the reference itself, which for adapters is the frozen base, so that the base always stands in the space.
    """

    trained: Decoder

    @property
    def spec(self) -> ArchSpec:
        """The architecture of the decoded networks."""
        return self.trained.spec

    def weights(self, vector: np.ndarray | Tensor) -> Tensor:
        """Return the weights (p,) of a vector (k * d + 1,), whose last entry is the strength."""
        return self.weights_of_many(vector[None])[0]

    def weights_of_many(self, vectors: np.ndarray | Tensor) -> Tensor:
        """Return the weights (n, p) of vectors (n, k * d + 1)."""
        both = torch.tensor(vectors) if isinstance(vectors, np.ndarray) else vectors
        reference = self.trained.reference
        decoded = self.trained.weights_of_many(both[:, :-1])
        return torch.lerp(reference, decoded, both[:, -1:].to(decoded))

    def to(self, device: str) -> AnchoredDecoder:
        """Return a copy on another device."""
        return AnchoredDecoder(self.trained.to(device))


@dataclass(frozen=True)
class TransplantDecoder:
    """Maps a flat standardised latent to weights of an architecture that the generator was not trained on."""

    trained: Decoder  # decoder of the nearest trained architecture
    transplant: Transplant  # converts weights of the trained architecture to the untrained one
    mask: Mask | None = None  # values that are generated, the others are fixed; None: all are generated

    @property
    def spec(self) -> ArchSpec:
        """The untrained architecture."""
        return self.transplant.target

    def weights(self, vector: np.ndarray | Tensor) -> Tensor:
        """Return the weights (q,) of a latent (k * d,)."""
        return self.weights_of_many(vector[None])[0]

    def weights_of_many(self, vectors: np.ndarray | Tensor) -> Tensor:
        """Return the weights (n, q) of latents (n, k * d)."""
        made = self.transplant(self.trained.weights_of_many(vectors))
        return made if self.mask is None else self.mask.compose(made)

    def to(self, device: str) -> TransplantDecoder:
        """Return a copy on another device."""
        mask = None if self.mask is None else self.mask.to(device)
        return TransplantDecoder(self.trained.to(device), self.transplant.to(device), mask)
