"""The VAE: decoding with and without a linear path, and the posterior against torch's distributions."""

from __future__ import annotations

import torch
from torch import nn

from popgen.archs import ArchSpec
from popgen.configs.generator import VAEConfig
from popgen.generator.model.vae import WeightVAE, kl_to_normal, sample_posterior

VAE = VAEConfig(latent_tokens=2, latent_width=3, token_width=16, width=16, heads=2)


def test_the_vae_decodes_an_architecture_without_a_linear_path() -> None:
    torch.manual_seed(0)
    known, other = ArchSpec.from_config("mlp-s"), ArchSpec.from_config("cnn-m")
    vae = WeightVAE(VAE, [known])
    z = torch.randn(3, 2, 3)
    assert torch.equal(vae.decode(other, z), torch.zeros(3, other.size))  # the position decoder starts at zero
    path = vae.linear[known.fingerprint]
    path.offset.data.normal_()
    assert torch.allclose(vae.decode(known, z), path.offset + z.flatten(1) @ path.basis, atol=1e-5)
    nn.init.normal_(vae.to_token[1].weight)
    decoded = vae.decode(other, z).detach()
    assert decoded.shape == (3, other.size)
    assert torch.isfinite(decoded).all()
    assert float(decoded.std(0).mean()) > 1e-3  # differences between latents
    assert float(decoded.std(1).mean()) > 1e-2  # differences between positions
    assert vae.encode(other, decoded)[0].shape == (3, 2, 3)


def test_the_posterior_and_its_divergence() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.randn(4, 2, 3), torch.randn(4, 2, 3)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, (log_variance / 2).exp()), normal(0.0, 1.0)).mean()
    assert torch.allclose(kl_to_normal(mean, log_variance), expected, atol=1e-5)
    draws = sample_posterior(mean.expand(4000, 4, 2, 3), log_variance.expand(4000, 4, 2, 3))
    assert torch.allclose(draws.mean(0), mean, atol=0.2)
    assert torch.allclose(draws.var(0).log(), log_variance, atol=0.2)
