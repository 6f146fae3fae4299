"""The VAE: encodes networks of any architecture, as tokens, into latents of one size, and decodes them.

Encoder (Perceiver, arXiv 2103.03206): k learned queries attend to the tokens. Decoder: each token position of an
architecture attends to the latent. For each trained architecture a linear path (offset + basis x latent) is added. An
architecture without a linear path is decoded by its positions alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from popgen.archs import ArchSpec
from popgen.configs.generator import VAEConfig
from popgen.generator.model.blocks import CrossBlock, Mlp, SelfBlock, zero_linear
from popgen.types import Flat, Latents
from popgen.weights.tokens import POSITION_FEATURES, TokenLayout


class LinearPath(nn.Module):
    """Computes x = offset + basis^T z for one architecture, where z is the flattened latent."""

    def __init__(self, size: int, coordinates: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(size))
        self.basis = nn.Parameter(torch.randn(coordinates, size) * 0.05)

    def forward(self, z: Latents) -> Flat:
        """Return x (n, size) for latents z (n, k, d) with k * d coordinates."""
        return torch.addmm(self.offset, z.flatten(1), self.basis)


class WeightVAE(nn.Module):
    """Encodes normalised weights (n, p) of any architecture into latents (n, k, d) and decodes them."""

    def __init__(self, config: VAEConfig, specs: list[ArchSpec]) -> None:
        super().__init__()
        self.config = config
        width, k, d = config.width, config.latent_tokens, config.latent_width
        self.queries = nn.Parameter(torch.randn(k, width) * 0.02)
        self.read_token = nn.Linear(config.token_width, width)
        self.read_position = Mlp(POSITION_FEATURES, width, width)
        self.encoder = nn.ModuleList(
            [CrossBlock(width, config.heads), SelfBlock(width, config.heads), CrossBlock(width, config.heads)]
        )
        self.to_posterior = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * d))
        self.from_latent = nn.Linear(d, width)
        self.latent_place = nn.Parameter(torch.randn(k, width) * 0.02)  # embedding of each latent token's index
        self.ask_position = Mlp(POSITION_FEATURES, width, width)
        self.decoder = nn.ModuleList([CrossBlock(width, config.heads) for _ in range(config.decoder_layers)])
        self.to_token = nn.Sequential(nn.LayerNorm(width), zero_linear(width, config.token_width))
        paths = {spec.fingerprint: LinearPath(spec.size, k * d) for spec in specs} if config.linear else {}
        self.linear = nn.ModuleDict(paths)
        self._layouts: dict[str, TokenLayout] = {}

    def layout(self, spec: ArchSpec) -> TokenLayout:
        """Return the token layout of an architecture, which is computed once."""
        if spec.fingerprint not in self._layouts:
            self._layouts[spec.fingerprint] = TokenLayout(spec, self.config.token_width)
        return self._layouts[spec.fingerprint]

    def forget_layouts(self) -> None:
        """Drop the token layouts, so that they are computed again on the device where they are next used."""
        self._layouts.clear()

    def encode(self, spec: ArchSpec, x: Flat) -> tuple[Latents, Latents]:
        """Return mean and log variance of the posterior, each (n, k, d), for normalised weights x (n, p)."""
        layout = self.layout(spec)
        tokens = self.read_token(layout.to_tokens(x)) + self.read_position(layout.positions.to(x))
        queries = self.queries[None]
        for block in self.encoder:
            queries = block(queries, tokens)
        mean, log_variance = self.to_posterior(queries).chunk(2, dim=-1)
        return mean, log_variance.clamp(-10, 2)

    def decode(self, spec: ArchSpec, z: Latents) -> Flat:
        """Return the normalised weights (n, p) of latents z (n, k, d)."""
        layout = self.layout(spec)
        context = self.from_latent(z) + self.latent_place
        queries = self.ask_position(layout.positions.to(z))[None]
        for block in self.decoder:
            queries = block(queries, context)
        x = layout.to_flat(self.to_token(queries))
        if spec.fingerprint in self.linear:
            x = x + self.linear[spec.fingerprint](z)
        return x


def sample_posterior(mean: Latents, log_variance: Latents, generator: torch.Generator | None = None) -> Latents:
    """Draw one latent from each posterior, (n, k, d)."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    return mean + (0.5 * log_variance).exp() * noise


def kl_to_normal(mean: Latents, log_variance: Latents) -> Tensor:
    """Return the KL divergence from the standard normal, averaged over networks and coordinates."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
