"""The latent prior: a mean predicted from the conditions, and around it a small transformer over the latent's tokens, trained
by flow matching or as a DDPM on what the mean leaves.

The mean is what behaviour teaches quickly: with the same training, networks for rotations that no network saw had .78 accuracy
from a flow alone and .95 from the mean. Flow matching: Lipman et al., arXiv 2210.02747, with straight paths. DDPM: Ho et al.,
arXiv 2006.11239, sampled by DDIM. Schedulers are those of diffusers. Guidance: Ho & Salimans, arXiv 2207.12598.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_heun_discrete import FlowMatchHeunDiscreteScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from popgen.configs.generator import PriorConfig, VAEConfig
from popgen.configs.sampling import Sampling
from popgen.errors import BadInput
from popgen.generator.model.blocks import AdaBlock, Mlp, time_features, zero_linear
from popgen.types import Latents

SAMPLERS = {"flow": ("euler", "heun"), "ddpm": ("ddim", "ddpm")}
_SMALLEST_STD = 0.02  # of a feature of an architecture
_BENT = 0.5  # share of examples in training for which the hidden layers are not left out
_LEVELS = 1000  # noise levels of the schedules


class Denoiser(nn.Module):
    """Predicts the velocity (flow) or the noise (DDPM) of latents under the two conditions, each with a linear adapter."""

    def __init__(self, config: PriorConfig, vae: VAEConfig, data_dim: int, arch_dim: int) -> None:
        super().__init__()
        width = config.width
        self.read = nn.Linear(vae.latent_width, width)
        self.place = nn.Parameter(torch.randn(vae.latent_tokens, width) * 0.02)
        self.data, self.arch = nn.Linear(data_dim, width), nn.Linear(arch_dim, width)
        self.time = Mlp(width, width)
        self.mix = Mlp(width, 2 * width)
        self.blocks = nn.ModuleList([AdaBlock(width, config.heads) for _ in range(config.layers)])
        self.write = nn.Sequential(nn.LayerNorm(width), zero_linear(width, vae.latent_width))

    def forward(self, z: Latents, t: Tensor, data: Tensor, arch: Tensor) -> Latents:
        """`t` (n,) in [0, 1], 1 is pure noise."""
        condition = self.time(time_features(t, self.place.shape[1])) + self.data(data) + self.arch(arch)
        condition = condition + self.mix(condition)
        x = self.read(z) + self.place
        for block in self.blocks:
            x = block(x, condition)
        return self.write(x)


class Mean(nn.Module):
    """Data set (n, data_dim) to latent (n, out): a linear map and two hidden layers, which the architecture scales and shifts (FiLM).

    With both conditions side by side at the input, the same training gave held-out rotations .69 instead of .86. The linear map says
    more about data sets between known ones than hidden layers do (held-out rotations, mlp-s: .93 instead of .91), which are needed
    for mixtures; so in training they are left out now and then. Perez et al., arXiv 1709.07871.
    """

    def __init__(self, data_dim: int, arch_dim: int, width: int, out: int) -> None:
        super().__init__()
        self.straight = nn.Linear(data_dim, width)
        self.steer_straight = zero_linear(arch_dim, 2 * width)
        self.write_straight = nn.Linear(width, out)
        self.layers = nn.ModuleList([nn.Linear(data_dim, width), nn.Linear(width, width)])
        self.steer = nn.ModuleList([zero_linear(arch_dim, 2 * width) for _ in self.layers])
        self.write = nn.Linear(width, out)

    def forward(self, data: Tensor, arch: Tensor) -> Tensor:
        scale, shift = self.steer_straight(arch).chunk(2, dim=1)
        straight: Tensor = self.write_straight(self.straight(data) * (1 + scale) + shift)
        x = data
        for layer, steer in zip(self.layers, self.steer, strict=True):
            scale, shift = steer(arch).chunk(2, dim=1)
            x = F.gelu(layer(x) * (1 + scale) + shift)
        bent: Tensor = self.write(x)
        if self.training:
            bent = bent * (torch.rand(len(bent), 1) < _BENT)
        return straight + bent


class Prior(nn.Module):
    """z = mean(conditions) + temperature * spread * r, where r is sampled by the denoiser.

    A learned vector stands for a missing condition.
    """

    spread: Tensor  # (k, d), standard deviation of what the mean leaves, followed in training
    latent_mean: Tensor  # (k, d), over the codes of all architectures together
    latent_std: Tensor
    arch_mean: Tensor  # (arch_dim,), of the trained architectures' vectors
    arch_std: Tensor

    def __init__(self, config: PriorConfig, vae: VAEConfig, data_dim: int, arch_dim: int) -> None:
        super().__init__()
        self.config, self.shape = config, (vae.latent_tokens, vae.latent_width)
        self.kind = "ddpm" if config.kind == "ddpm" else "flow"
        self.no_data, self.no_arch = nn.Parameter(torch.zeros(data_dim)), nn.Parameter(torch.zeros(arch_dim))
        self.mean = Mean(data_dim, arch_dim, 2 * config.width, vae.latent_tokens * vae.latent_width)
        self.denoiser = Denoiser(config, vae, data_dim, arch_dim)
        self.register_buffer("spread", torch.ones(self.shape))
        self._seen: list[Tensor] = []
        self.register_buffer("latent_mean", torch.zeros(self.shape))
        self.register_buffer("latent_std", torch.ones(self.shape))
        self.register_buffer("arch_mean", torch.zeros(arch_dim))
        self.register_buffer("arch_std", torch.ones(arch_dim))
        # scaled latents lie well within 4; without the clip DDIM's first step multiplies errors by 1 / sqrt(alpha_bar)
        self._ddpm = DDPMScheduler(num_train_timesteps=_LEVELS, clip_sample=True, clip_sample_range=4.0)

    def set_latents(self, raw: Latents) -> None:
        """Standardise latents by those of all checkpoints (n, k, d), so that architectures share one space."""
        self.latent_mean, self.latent_std = raw.mean(0), raw.std(0).clamp_min(1e-6)

    def set_archs(self, vectors: Tensor) -> None:
        """Standardise the vectors of architectures by those of the trained ones (n, arch_dim).

        Their texts are much alike: without this two designs of one family got one mean between them.
        """
        self.arch_mean = vectors.mean(0)
        self.arch_std = (vectors - self.arch_mean).square().mean(0).sqrt().clamp_min(_SMALLEST_STD)

    def losses(self, z: Latents, data: Tensor, arch: Tensor) -> dict[str, Tensor]:
        """Mean squared errors of the mean, and of the denoiser at random noise levels, for the VAE's latents z.

        Conditions are dropped at random.
        """
        z = (z - self.latent_mean) / self.latent_std
        data, arch = self._conditions(data, arch, torch.rand(len(z), 2) < self.config.drop_condition)
        mean = self._mean(data, arch)
        left = z - mean.detach()
        if self.training:
            self._seen.append(left.float().square().mean(0).sqrt().clamp_min(1e-3))
        scaled, noise = left / self.spread, torch.randn_like(z)
        if self.kind == "flow":
            t = torch.rand(len(z))
            at = t.view(-1, 1, 1)
            noisy, target = (1 - at) * scaled + at * noise, noise - scaled
        else:
            level = torch.randint(_LEVELS, (len(z),))
            noisy, target, t = self._ddpm.add_noise(scaled, noise, level), noise, level / _LEVELS  # type: ignore[arg-type]
        return {"mean": F.mse_loss(mean, z), "prior": F.mse_loss(self.denoiser(noisy, t, data, arch), target)}

    def take_seen(self) -> list[Tensor]:
        """The spread (k, d) in each call of `losses` in training since the last call."""
        seen, self._seen = self._seen, []
        return seen

    def follow(self, seen: Tensor) -> None:
        """Move the spread towards those that were seen (n, k, d), one after the other."""
        for spread in seen:
            self.spread = torch.lerp(self.spread, spread, 0.01)

    def sample(
        self,
        data: Tensor,
        arch: Tensor,
        noise: Latents,
        sampling: Sampling | None = None,
        without: Tensor | None = None,
    ) -> Latents:
        """The VAE's latents (n, k, d) from `noise` of that shape; the mean is differentiable.

        Args:
            sampling: sampler, steps and guidance; what it leaves open is as the settings say. The sampler ddpm draws noise of its
                own. Guidance w moves the prediction away from the unconditional one: 1 is the conditional model, 0 ignores
                the conditions.
            without: (n, 2), True where data or architecture is left out.

        Raises:
            BadInput: a sampler of the other kind.
        """
        how = (sampling or Sampling()).over(self.config.sampling)
        assert how.steps is not None and how.guidance is not None, "the settings leave none of them open"
        scheduler, guidance = self._scheduler(how.steps, how.sampler), how.guidance
        some = self._conditions(data, arch, without)
        none = self._conditions(data, arch, torch.ones(len(noise), 2, dtype=torch.bool))

        def guided(f: Any) -> Tensor:
            predicted: Tensor = f(*some)
            return predicted if guidance == 1 else torch.lerp(f(*none), predicted, guidance)

        r = noise
        with torch.no_grad():  # behaviour teaches the mean; what stands around it is the codes' own distribution
            for step in scheduler.timesteps:
                t = (step / _LEVELS).expand(len(r)).float()
                r = scheduler.step(guided(lambda d, a, r=r, t=t: self.denoiser(r, t, d, a)), step, r).prev_sample
        z = guided(self._mean) + self.config.temperature * self.spread * r
        return z * self.latent_std + self.latent_mean

    def _mean(self, data: Tensor, arch: Tensor) -> Latents:
        found: Latents = self.mean(data, arch).view(-1, *self.shape)
        return found

    def _conditions(self, data: Tensor, arch: Tensor, without: Tensor | None) -> tuple[Tensor, Tensor]:
        if without is None:
            without = torch.zeros(len(data), 2, dtype=torch.bool)
        unused = ~torch.tensor([self.config.use_data, self.config.use_arch])
        without = without | unused
        arch = ((arch - self.arch_mean) / self.arch_std).clamp(-3, 3)  # no further: another one may be far from all
        return torch.where(without[:, :1], self.no_data, data), torch.where(without[:, 1:], self.no_arch, arch)

    def _scheduler(self, steps: int, name: str | None) -> Any:
        name = name or SAMPLERS[self.kind][0]
        if name not in SAMPLERS[self.kind]:
            raise BadInput(
                f"sampler {name!r} does not go with a prior of kind {self.kind}",
                f"it was trained as a {self.kind}",
                f"Choose {' or '.join(SAMPLERS[self.kind])}.",
            )
        if self.kind == "flow":
            flow = (FlowMatchEulerDiscreteScheduler if name == "euler" else FlowMatchHeunDiscreteScheduler)(
                num_train_timesteps=_LEVELS
            )
            if name == "euler":
                flow.set_timesteps(sigmas=torch.linspace(1, 1 / steps, steps).tolist())
            else:
                flow.set_timesteps(steps)
            return flow
        ddpm: Any = DDPMScheduler if name == "ddpm" else DDIMScheduler
        scheduler = ddpm.from_config(self._ddpm.config, timestep_spacing="trailing")
        scheduler.set_timesteps(steps)
        return scheduler
