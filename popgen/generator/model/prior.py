"""The latent prior: a mean that is predicted from the conditions, and a denoiser that samples the deviation from it.

The denoiser is a small transformer over the latent's tokens, trained by flow matching (Lipman et al., arXiv 2210.02747,
with straight paths) or as a DDPM (Ho et al., arXiv 2006.11239, sampled by DDIM). Schedulers are those of diffusers,
except for Euler's, the default: it is two lines, and importing diffusers takes a second at every start. Guidance: Ho & Salimans, arXiv 2207.12598.

The loss on the networks' behaviour trains the mean quickly: with the same training, networks for held-out rotations
reached 0.78 accuracy from a flow alone, and 0.95 from the mean.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popgen.configs.generator import PriorConfig, VAEConfig
from popgen.configs.sampling import Sampling
from popgen.errors import BadInput
from popgen.generator.model.blocks import AdaBlock, Mlp, time_features, zero_linear
from popgen.types import Latents

SAMPLERS = {"flow": ("euler", "heun"), "ddpm": ("ddim", "ddpm")}  # the first of a kind is its default
_SMALLEST_STD = 0.02  # lower bound of `arch_std`, for coordinates in which architectures hardly differ
_NONLINEAR = 0.5  # share of training examples for which the hidden layers are used
_MOMENTUM = 0.01  # weight of a batch's spread in the running one
_LEVELS = 1000  # noise levels of the schedules

# Maps a prediction, its time step and the latents there to the latents at the next time step.
Step = Callable[[Tensor, Tensor, Tensor], Tensor]


class Denoiser(nn.Module):
    """Predicts the velocity (flow) or the noise (DDPM) of latents under the two conditions."""

    def __init__(self, config: PriorConfig, vae: VAEConfig, data_dim: int, arch_dim: int) -> None:
        super().__init__()
        width = config.width
        self.read = nn.Linear(vae.latent_width, width)
        self.place = nn.Parameter(torch.randn(vae.latent_tokens, width) * 0.02)  # embedding of each token's index
        self.data, self.arch = nn.Linear(data_dim, width), nn.Linear(arch_dim, width)
        self.time = Mlp(width, width)
        self.mix = Mlp(width, 2 * width)
        self.blocks = nn.ModuleList([AdaBlock(width, config.heads) for _ in range(config.layers)])
        self.write = nn.Sequential(nn.LayerNorm(width), zero_linear(width, vae.latent_width))

    def forward(self, z: Latents, t: Tensor, data: Tensor, arch: Tensor) -> Latents:
        """Return the prediction (n, k, d) at times `t` (n,) in [0, 1], where 1 is pure noise."""
        condition = self.time(time_features(t, self.place.shape[1])) + self.data(data) + self.arch(arch)
        condition = condition + self.mix(condition)
        x = self.read(z) + self.place
        for block in self.blocks:
            x = block(x, condition)
        return self.write(x)


class Mean(nn.Module):
    """Predicts the mean latent (n, out) from a data set (n, data_dim) and an architecture (n, arch_dim).

    It is the sum of a linear map and a map with two hidden layers. The architecture scales and shifts their activations
    (FiLM: Perez et al., arXiv 1709.07871). When both conditions were concatenated at the input instead, networks for
    held-out rotations reached an accuracy of 0.69 instead of 0.86 with the same training. The linear map predicts data
    sets between known ones better than the hidden layers do (held-out rotations, mlp-s: 0.93 and 0.91), but mixtures of
    data sets need the hidden layers. Training therefore drops the hidden layers at random.
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
        """Return the mean latents (n, k * d) for vectors of data sets (n, data_dim) and of architectures (n, arch_dim)."""
        scale, shift = self.steer_straight(arch).chunk(2, dim=1)
        straight: Tensor = self.write_straight(self.straight(data) * (1 + scale) + shift)
        x = data
        for layer, steer in zip(self.layers, self.steer, strict=True):
            scale, shift = steer(arch).chunk(2, dim=1)
            x = F.gelu(layer(x) * (1 + scale) + shift)
        nonlinear: Tensor = self.write(x)
        if self.training:
            nonlinear = nonlinear * (torch.rand(len(nonlinear), 1) < _NONLINEAR)
        return straight + nonlinear


class Prior(nn.Module):
    """Samples latents z = mean(conditions) + temperature * spread * r, where the denoiser samples r.

    Inside the prior latents and architecture vectors are standardised by the statistics below. A learned vector
    replaces a missing condition.
    """

    spread: Tensor  # (k, d), running standard deviation of latents around their predicted means
    latent_mean: Tensor  # (k, d), mean of the latents of all architectures together
    latent_std: Tensor  # (k, d), their standard deviation
    arch_mean: Tensor  # (arch_dim,), mean of the trained architectures' vectors
    arch_std: Tensor  # (arch_dim,), their standard deviation

    def __init__(self, config: PriorConfig, vae: VAEConfig, data_dim: int, arch_dim: int) -> None:
        super().__init__()
        self.config, self.shape = config, (vae.latent_tokens, vae.latent_width)
        self.kind = "ddpm" if config.kind == "ddpm" else "flow"  # `auto` trains a flow
        self.no_data, self.no_arch = nn.Parameter(torch.zeros(data_dim)), nn.Parameter(torch.zeros(arch_dim))
        self.mean = Mean(data_dim, arch_dim, 2 * config.width, vae.latent_tokens * vae.latent_width)
        self.denoiser = Denoiser(config, vae, data_dim, arch_dim)
        self.register_buffer("spread", torch.ones(self.shape))
        self._seen: list[Tensor] = []  # spreads of batches, for the running one
        self.register_buffer("latent_mean", torch.zeros(self.shape))
        self.register_buffer("latent_std", torch.ones(self.shape))
        self.register_buffer("arch_mean", torch.zeros(arch_dim))
        self.register_buffer("arch_std", torch.ones(arch_dim))

    @cached_property
    def _ddpm(self) -> Any:
        """The DDPM's schedule of noise."""
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

        # Scaled deviations lie well within 4. Without the clip DDIM's first step multiplies errors by
        # 1 / sqrt(alpha_bar).
        return DDPMScheduler(num_train_timesteps=_LEVELS, clip_sample=True, clip_sample_range=4.0)

    def set_latents(self, raw: Latents) -> None:
        """Set `latent_mean` and `latent_std` from the latents of all checkpoints (n, k, d)."""
        self.latent_mean, self.latent_std = raw.mean(0), raw.std(0).clamp_min(1e-6)

    def set_archs(self, vectors: Tensor) -> None:
        """Set `arch_mean` and `arch_std` from the vectors of the trained architectures (n, arch_dim).

        Texts of architectures are similar: before their vectors were standardised, the predicted means of two
        architectures of one family were the same.
        """
        self.arch_mean = vectors.mean(0)
        self.arch_std = (vectors - self.arch_mean).square().mean(0).sqrt().clamp_min(_SMALLEST_STD)

    def losses(self, z: Latents, data: Tensor, arch: Tensor) -> dict[str, Tensor]:
        """Return the losses `mean` and `prior`: mean squared errors of the predicted mean and of the denoiser.

        Noise levels are random. Conditions are dropped at random, so that guidance has an unconditional prediction.

        Args:
            z: the VAE's latents (n, k, d).
            data: embeddings (n, data_dim) of their data sets.
            arch: vectors (n, arch_dim) of their architectures.
        """
        z = (z - self.latent_mean) / self.latent_std
        data, arch = self._conditions(data, arch, torch.rand(len(z), 2) < self.config.drop_condition)
        mean = self._mean(data, arch)
        deviation = z - mean.detach()
        if self.training:
            self._seen.append(deviation.float().square().mean(0).sqrt().clamp_min(1e-3))
        scaled, noise = deviation / self.spread, torch.randn_like(z)
        if self.kind == "flow":
            t = torch.rand(len(z))
            at = t.view(-1, 1, 1)
            noisy, target = (1 - at) * scaled + at * noise, noise - scaled
        else:
            level = torch.randint(_LEVELS, (len(z),))
            noisy, target, t = self._ddpm.add_noise(scaled, noise, level), noise, level / _LEVELS
        return {"mean": F.mse_loss(mean, z), "prior": F.mse_loss(self.denoiser(noisy, t, data, arch), target)}

    def take_seen(self) -> list[Tensor]:
        """Return the spread (k, d) of each training batch since the last call, and clear the list."""
        seen, self._seen = self._seen, []
        return seen

    def update(self, seen: Tensor) -> None:
        """Update the running spread with those of batches (n, k, d), in their order."""
        for spread in seen:
            self.spread = torch.lerp(self.spread, spread, _MOMENTUM)

    def sample(
        self,
        data: Tensor,
        arch: Tensor,
        noise: Latents,
        sampling: Sampling | None = None,
        without: Tensor | None = None,
    ) -> Latents:
        """Sample the VAE's latents (n, k, d) from `noise` (n, k, d); the gradient flows through the mean only.

        Args:
            sampling: sampler, steps and guidance; fields that are None are taken from the settings. The sampler `ddpm`
                draws further noise from torch's global generator. Guidance moves the prediction away from the
                unconditional one: 1 is the conditional model, 0 ignores the conditions.
            without: (n, 2), True if the data set (first column) or the architecture (second) is left out.

        Raises:
            BadInput: the prior was not trained for the sampler.
        """
        how = (sampling or Sampling()).over(self.config.sampling)
        assert how.steps is not None and how.guidance is not None, "the settings give both"
        (timesteps, step), guidance = self._steps(how.steps, how.sampler), how.guidance
        conditional = self._conditions(data, arch, without)
        unconditional = self._conditions(data, arch, torch.ones(len(noise), 2, dtype=torch.bool))

        def guided(f: Any) -> Tensor:
            predicted: Tensor = f(*conditional)
            return predicted if guidance == 1 else torch.lerp(f(*unconditional), predicted, guidance)

        r = noise
        # The loss on behaviour trains only the mean, so that the denoiser keeps the distribution of the codes.
        with torch.no_grad():
            for timestep in timesteps:
                t = (timestep / _LEVELS).expand(len(r)).float()
                r = step(guided(lambda d, a, r=r, t=t: self.denoiser(r, t, d, a)), timestep, r)
        z = guided(self._mean) + self.config.temperature * self.spread * r
        return z * self.latent_std + self.latent_mean

    def sample_roughly(self, data: Tensor, arch: Tensor, noise: Latents) -> Latents:
        """Return latents (n, k, d) around the predicted means whose deviations are normal, as the denoiser's roughly are; differentiable.

        This is for training on the behaviour of networks, where the denoiser took a sixth of a step and samples are as good without it
        (examples/results/training.md).
        """
        z = self._mean(*self._conditions(data, arch, None)) + self.config.temperature * self.spread * noise
        return z * self.latent_std + self.latent_mean

    def _mean(self, data: Tensor, arch: Tensor) -> Latents:
        """Return the predicted means (n, k, d), from conditions that `_conditions` has returned."""
        found: Latents = self.mean(data, arch).view(-1, *self.shape)
        return found

    def _conditions(self, data: Tensor, arch: Tensor, without: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return both conditions with learned vectors for missing ones, and architecture vectors standardised."""
        if without is None:
            without = torch.zeros(len(data), 2, dtype=torch.bool)
        unused = ~torch.tensor([self.config.use_data, self.config.use_arch])
        without = without | unused
        # An architecture that was not trained may be far from all others, where the prior would extrapolate.
        arch = ((arch - self.arch_mean) / self.arch_std).clamp(-3, 3)
        return torch.where(without[:, :1], self.no_data, data), torch.where(without[:, 1:], self.no_arch, arch)

    def _steps(self, steps: int, name: str | None) -> tuple[Tensor, Step]:
        """Return the time steps (steps,) of a sampler, and its step; None means the default sampler of this kind."""
        name = name or SAMPLERS[self.kind][0]
        if name not in SAMPLERS[self.kind]:
            raise BadInput(
                f"sampler {name!r} does not go with a prior of kind {self.kind}",
                f"it was trained as a {self.kind}",
                f"Choose {' or '.join(SAMPLERS[self.kind])}.",
            )
        if name == "euler":
            return euler(steps)
        scheduler: Any
        if name == "heun":
            from diffusers.schedulers.scheduling_flow_match_heun_discrete import FlowMatchHeunDiscreteScheduler

            scheduler = FlowMatchHeunDiscreteScheduler(num_train_timesteps=_LEVELS)
        else:
            from diffusers.schedulers import DDIMScheduler, DDPMScheduler

            ddpm: Any = DDPMScheduler if name == "ddpm" else DDIMScheduler
            scheduler = ddpm.from_config(self._ddpm.config, timestep_spacing="trailing")
        scheduler.set_timesteps(steps)
        return scheduler.timesteps, lambda predicted, t, r: scheduler.step(predicted, t, r).prev_sample


def euler(steps: int) -> tuple[Tensor, Step]:
    """Return the time steps (steps,) and the step of Euler's method for a flow, from noise at time 1 to data at time 0."""
    times = torch.linspace(1, 1 / steps, steps)
    timesteps, after = times * _LEVELS, torch.cat([times[1:], torch.zeros(1)])
    lengths = dict(zip(timesteps.tolist(), after - times, strict=True))
    return timesteps, lambda velocity, t, r: r + lengths[t.item()] * velocity
