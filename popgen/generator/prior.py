"""The latent prior: a small transformer over the latent's tokens, trained by flow matching or as a DDPM.

Flow matching: Lipman et al., arXiv 2210.02747, with straight paths. DDPM: Ho et al., arXiv 2006.11239, sampled by DDIM.
Schedulers are those of diffusers. Guidance: Ho & Salimans, arXiv 2207.12598.
"""

from __future__ import annotations

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from popgen.generator.blocks import AdaBlock, Mlp, time_features, zero_linear
from popgen.generator.config import PriorConfig, VAEConfig
from popgen.types import Latents

_LEVELS = 1000  # noise levels of the schedules


class Denoiser(nn.Module):
    """Predicts the velocity (flow) or the noise (DDPM) of standardised latents under the two conditions.

    Each condition has a linear adapter and a learned vector that stands in its place when it is left out.
    """

    def __init__(self, config: PriorConfig, vae: VAEConfig, data_dim: int, arch_dim: int) -> None:
        super().__init__()
        width = config.width
        self.read = nn.Linear(vae.latent_width, width)
        self.place = nn.Parameter(torch.randn(vae.latent_tokens, width) * 0.02)
        self.data, self.arch = nn.Linear(data_dim, width), nn.Linear(arch_dim, width)
        self.no_data, self.no_arch = (nn.Parameter(torch.zeros(width)) for _ in range(2))
        self.time = Mlp(width, width)
        self.mix = Mlp(width, 2 * width)
        self.blocks = nn.ModuleList([AdaBlock(width, config.heads) for _ in range(config.layers)])
        self.write = nn.Sequential(nn.LayerNorm(width), zero_linear(width, vae.latent_width))

    def forward(self, z: Latents, t: Tensor, data: Tensor, arch: Tensor, without: Tensor | None = None) -> Latents:
        """`t` (n,) in [0, 1], 1 is pure noise; `without` (n, 2) is True where data or architecture is left out."""
        data, arch = self.data(data), self.arch(arch)
        if without is not None:
            data = torch.where(without[:, :1], self.no_data, data)
            arch = torch.where(without[:, 1:], self.no_arch, arch)
        condition = self.time(time_features(t, data.shape[1])) + data + arch
        condition = condition + self.mix(condition)
        x = self.read(z) + self.place
        for block in self.blocks:
            x = block(x, condition)
        return self.write(x)


class Prior(nn.Module):
    """The denoiser with its noise schedule."""

    def __init__(self, config: PriorConfig, vae: VAEConfig, data_dim: int, arch_dim: int) -> None:
        super().__init__()
        self.config, self.shape = config, (vae.latent_tokens, vae.latent_width)
        self.denoiser = Denoiser(config, vae, data_dim, arch_dim)
        # standardised latents lie well within 4; without the clip DDIM's first step multiplies errors by 1 / sqrt(alpha_bar)
        self._ddpm = DDPMScheduler(num_train_timesteps=_LEVELS, clip_sample=True, clip_sample_range=4.0)

    def loss(self, z: Latents, data: Tensor, arch: Tensor) -> Tensor:
        """Mean squared error of the prediction at random noise levels; conditions are dropped at random."""
        noise = torch.randn_like(z)
        without = torch.rand(len(z), 2) < self.config.drop_condition
        if self.config.kind == "flow":
            t = torch.rand(len(z))
            at = t.view(-1, 1, 1)
            noisy, target = (1 - at) * z + at * noise, noise - z
        else:
            level = torch.randint(_LEVELS, (len(z),))
            noisy, target, t = self._ddpm.add_noise(z, noise, level), noise, level / _LEVELS  # type: ignore[arg-type]
        return F.mse_loss(self.denoiser(noisy, t, data, arch, without), target)

    def sample(
        self, data: Tensor, arch: Tensor, noise: Latents, steps: int | None = None, guidance: float | None = None
    ) -> Latents:
        """Standardised latents (n, k, d) from `noise` of that shape, by `steps` steps of the sampler; differentiable.

        `guidance` w moves the prediction away from the unconditional one: 1 is the conditional model, 0 ignores the
        conditions.
        """
        guidance = self.config.guidance if guidance is None else guidance
        scheduler = self._sampler(steps or self.config.sample_steps)
        z = noise
        for step in scheduler.timesteps:
            t = (step / _LEVELS).expand(len(z)).float()
            predicted = self.denoiser(z, t, data, arch)
            if guidance != 1:
                alone = self.denoiser(z, t, data, arch, torch.ones(len(z), 2, dtype=torch.bool))
                predicted = alone + guidance * (predicted - alone)
            z = scheduler.step(predicted, step, z).prev_sample
        return z

    def _sampler(self, steps: int) -> FlowMatchEulerDiscreteScheduler | DDIMScheduler:
        if self.config.kind == "flow":
            flow = FlowMatchEulerDiscreteScheduler(num_train_timesteps=_LEVELS)
            flow.set_timesteps(sigmas=torch.linspace(1, 1 / steps, steps).tolist())
            return flow
        ddim = DDIMScheduler.from_config(self._ddpm.config, timestep_spacing="trailing")
        ddim.set_timesteps(steps)
        return ddim
