"""The latent prior, with denoisers whose exact samples are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from popgen.configs.generator import PriorConfig, VAEConfig
from popgen.configs.sampling import Sampling
from popgen.errors import BadInput
from popgen.generator.model.prior import Mean, Prior, euler

VAE = VAEConfig(latent_tokens=2, latent_width=3, token_width=16, width=16, heads=2)


class PointDenoiser(nn.Module):
    """The exact denoiser of a distribution that is a single point.

    The point is `target` under a condition, and `unconditional` if the condition is zero. `alphas` are the cumulative
    products of the DDPM's noise schedule.
    """

    def __init__(self, kind: str, target: Tensor, unconditional: Tensor, alphas: Tensor) -> None:
        super().__init__()
        self.kind, self.target, self.unconditional, self.alphas = kind, target, unconditional, alphas

    def forward(self, z: Tensor, t: Tensor, data: Tensor, arch: Tensor) -> Tensor:
        point = self.target if data.any() else self.unconditional
        if self.kind == "flow":  # z = (1 - t) point + t noise
            return (z - point) / t.view(-1, 1, 1)
        alpha = self.alphas[(t * 1000).round().long()].view(-1, 1, 1)  # z = sqrt(alpha) point + sqrt(1 - alpha) noise
        return (z - alpha.sqrt() * point) / (1 - alpha).sqrt()


class Zero(nn.Module):
    """A predicted mean that is zero under all conditions."""

    def forward(self, data: Tensor, arch: Tensor) -> Tensor:
        return torch.zeros(len(data), 6)


def exact_prior(kind: str) -> tuple[Prior, Tensor, Tensor]:
    """A prior with an exact denoiser, and the points of its conditional and its unconditional distribution."""
    generator = torch.Generator().manual_seed(3)
    target, unconditional = (torch.randn(5, 2, 3, generator=generator).clamp(-1.2, 1.2) for _ in range(2))
    prior = Prior(PriorConfig(kind=kind, width=16, heads=2, temperature=1), VAE, 4, 4)
    betas = torch.linspace(1e-4, 0.02, 1000)  # Ho et al., section 4
    prior.denoiser, prior.mean = PointDenoiser(kind, target, unconditional, (1 - betas).cumprod(0)), Zero()
    return prior, target, unconditional


CONDITIONS = torch.ones(5, 4), torch.ones(5, 4)


@pytest.mark.parametrize(("kind", "sampler"), [("flow", "euler"), ("flow", "heun"), ("ddpm", "ddim")])
@pytest.mark.parametrize("steps", [1, 2, 7, 20])
def test_samples_of_an_exact_denoiser_are_its_point(kind: str, sampler: str, steps: int) -> None:
    torch.manual_seed(0)
    prior, target, _ = exact_prior(kind)
    found = prior.sample(*CONDITIONS, torch.randn(5, 2, 3), Sampling(steps=steps, sampler=sampler))
    # If the steps do not divide the 1000 levels, diffusers' DDIM ends at level 0, which has a hundredth of the noise.
    tolerance = 0.04 if (kind, steps) == ("ddpm", 7) else 1e-2 if sampler == "heun" else 1e-4
    assert torch.allclose(found, target, atol=tolerance)


def test_samples_of_the_ancestral_sampler_are_the_point_too() -> None:
    prior, target, _ = exact_prior("ddpm")
    torch.manual_seed(0)
    found = prior.sample(*CONDITIONS, torch.randn(5, 2, 3), Sampling(steps=20, sampler="ddpm"))
    assert torch.allclose(found, target, atol=0.05)


def test_a_sampler_of_the_other_kind_is_refused() -> None:
    prior, _, _ = exact_prior("flow")
    text = "sampler 'ddim' does not go with a prior of kind flow\nit was trained as a flow\nChoose euler or heun."
    with pytest.raises(BadInput, match=text):
        prior.sample(*CONDITIONS, torch.randn(5, 2, 3), Sampling(steps=2, sampler="ddim"))


def test_samples_are_the_predicted_mean_plus_a_scaled_deviation() -> None:
    torch.manual_seed(0)
    prior, target, unconditional = exact_prior("flow")
    prior.spread = torch.full((2, 3), 0.5)
    prior.mean = Mean(4, 4, 8, 6).eval()
    mean, empty_mean = (prior.mean(*(torch.full((5, 4), value),) * 2).view(5, 2, 3) for value in (1.0, 0.0))
    assert not torch.allclose(mean, empty_mean, atol=0.1)
    noise = torch.randn(5, 2, 3)
    assert torch.allclose(prior.sample(*CONDITIONS, noise, Sampling(steps=2)), mean + 0.5 * target, atol=1e-5)
    empty = prior.sample(*CONDITIONS, noise, Sampling(steps=2), without=torch.ones(5, 2, dtype=torch.bool))
    assert torch.allclose(empty, empty_mean + 0.5 * unconditional, atol=1e-5)
    doubled = prior.sample(*CONDITIONS, noise, Sampling(steps=2, guidance=2))
    expected = 2 * (mean + 0.5 * target) - (empty_mean + 0.5 * unconditional)
    assert torch.allclose(doubled, expected, atol=1e-4)


def test_a_flow_of_constant_velocity_is_exact() -> None:
    prior, target, _ = exact_prior("flow")
    noise = torch.randn(5, 2, 3)

    class Constant(nn.Module):
        def forward(self, z: Tensor, *_: Tensor) -> Tensor:
            return noise - target

    prior.denoiser = Constant()
    for steps in (1, 3, 20):
        assert torch.allclose(prior.sample(*CONDITIONS, noise, Sampling(steps=steps)), target, atol=1e-5)


@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0, 2.0])
def test_guidance_extrapolates_from_the_unconditional_prediction(guidance: float) -> None:
    prior, target, unconditional = exact_prior("flow")
    found = prior.sample(*CONDITIONS, torch.randn(5, 2, 3), Sampling(steps=4, guidance=guidance))
    assert torch.allclose(found, unconditional + guidance * (target - unconditional), atol=1e-4)


@pytest.mark.parametrize("kind", ["flow", "ddpm"])
def test_the_losses_of_an_untrained_and_of_an_exact_denoiser(kind: str) -> None:
    torch.manual_seed(0)
    prior = Prior(PriorConfig(kind=kind, width=16, heads=2, temperature=1), VAE, 4, 6)
    prior.mean = Zero()
    z = torch.randn(2000, 2, 3)
    losses = prior.losses(z, torch.randn(2000, 4), torch.randn(2000, 6))
    # An untrained denoiser predicts zero, so the loss is the variance of its target.
    assert float(losses["prior"].detach()) == pytest.approx({"flow": 2, "ddpm": 1}[kind], rel=0.1)
    assert float(losses["mean"]) == pytest.approx(1, rel=0.1)
    losses["prior"].backward()
    gradients = [p.grad for p in prior.parameters() if p.grad is not None]
    assert gradients and all(torch.isfinite(g).all() for g in gradients)
    exact, target, _ = exact_prior(kind)
    exact.config = exact.config.model_copy(update={"drop_condition": 0.0})
    assert float(exact.eval().losses(target, *CONDITIONS)["prior"]) < 1e-3


def test_the_spread_follows_the_deviations_from_the_mean() -> None:
    torch.manual_seed(0)
    prior = Prior(PriorConfig(width=16, heads=2), VAE, 4, 6)
    prior.mean, sizes = Zero(), torch.tensor([[0.1, 0.5, 1.0], [2.0, 0.3, 0.2]])
    for _ in range(600):
        prior.losses(sizes * torch.randn(64, 2, 3), torch.randn(64, 4), torch.randn(64, 6))
        prior.update(torch.stack(prior.take_seen()))
    assert torch.allclose(prior.spread, sizes, rtol=0.1)
    before = prior.eval().spread
    prior.losses(torch.randn(64, 2, 3), torch.randn(64, 4), torch.randn(64, 6))
    assert prior.take_seen() == [] and torch.equal(prior.spread, before)


def test_a_dropped_condition_has_no_influence() -> None:
    torch.manual_seed(0)
    prior = Prior(PriorConfig(width=16, heads=2, layers=1), VAE, 4, 6).eval()
    for parameter in prior.parameters():
        nn.init.normal_(parameter, std=0.3)
    noise = torch.randn(3, 2, 3)
    first, second = ((torch.randn(3, 4), torch.randn(3, 6)) for _ in range(2))
    both = torch.ones(3, 2, dtype=torch.bool)
    no_data = torch.tensor([[True, False]]).expand(3, 2)

    def sample(data: Tensor, arch: Tensor, without: Tensor | None = None) -> Tensor:
        return prior.sample(data, arch, noise, Sampling(steps=2), without=without)

    assert torch.allclose(sample(*first, both), sample(*second, both))
    assert torch.allclose(sample(*first, no_data), sample(second[0], first[1], no_data))
    assert not torch.allclose(sample(*first, no_data), sample(first[0], second[1], no_data), atol=1e-3)
    assert torch.allclose(sample(*first), sample(*first, ~both))
    prior.config = prior.config.model_copy(update={"use_data": False})
    assert torch.allclose(sample(*first), sample(second[0], first[1]))


@pytest.mark.parametrize("steps", [1, 4, 7, 33])
def test_euler_is_that_of_diffusers_to_the_last_digit(steps: int) -> None:
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

    theirs = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
    theirs.set_timesteps(sigmas=torch.linspace(1, 1 / steps, steps).tolist())
    timesteps, step = euler(steps)
    assert torch.equal(timesteps, theirs.timesteps)
    mine = other = torch.randn(5, 4, 8)
    for t in timesteps:
        velocity = torch.randn(5, 4, 8)
        mine, other = step(velocity, t, mine), theirs.step(velocity, t, other).prev_sample
        assert torch.equal(mine, other)
