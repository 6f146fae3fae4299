"""Cheap ways to make networks from training checkpoints, which a generator has to beat on the same axes.

Noise at a sweep of strengths, averages of several checkpoints, a Gaussian for each parameter (arXiv 2506.07998), and where there is a
generator noise on stored latents and a kernel density in latent space (hyper-representations, arXiv 2209.14733). Every control returns fresh
tensors, because an average computed in place makes later averages averages of averages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.configs.sampling import Sampling
from popgen.data import DataSet
from popgen.generator import Generator
from popgen.types import Flat

NOISE = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # standard deviations, in units of each tensor's own
AVERAGED = (2, 4, 8, 16)  # checkpoints in an average
LATENT_NOISE = (0.1, 0.3, 1.0)  # standard deviations, in units of each latent coordinate's own over the zoo
_SMALLEST_VARIANCE = 1e-5  # running variances are raised to this


@dataclass(frozen=True)
class Control:
    """Networks (n, p) of one control; `amount` is the strength of noise or the number of averaged checkpoints."""

    name: str
    kind: str
    amount: float | None
    weights: Flat
    in_order: bool = False  # whether units are in the order of the checkpoints, so that matching them is in vain


def weight_controls(
    spec: ArchSpec, near: Flat, close: Flat, aligned: Flat | None, n: int, seed: int
) -> Iterator[Control]:
    """The controls that need checkpoints alone.

    Args:
        near: checkpoints (m, p) of the reference group, which noise is added to.
        close: checkpoints (m', p) in the order of their validation accuracy, best first, which are averaged.
        aligned: the same with their units in one order, where that is another.
        n: networks of each control.
    """
    random = torch.Generator().manual_seed(seed)
    for strength in NOISE:
        yield Control(f"noise {strength:g}", "noise", strength, noisy(spec, near, strength, n, random), True)
    for kind, pool in (("average", close), ("aligned average", aligned)):
        for k in AVERAGED if pool is not None else ():
            if pool is not None and k <= len(pool):
                yield Control(f"{kind} of {k}", kind, k, averages(pool, k, n, random), True)
    if len(close) > 1:
        pool = near if len(near) >= AVERAGED[-1] else close[: max(len(near), AVERAGED[-1])]
        yield Control("Gaussian", "gaussian", None, gaussian(spec, pool, n, random), True)


def noisy(spec: ArchSpec, weights: Flat, strength: float, n: int, random: torch.Generator) -> Flat:
    """Checkpoints in turn, with normal noise of `strength` times each tensor's standard deviation; shape (n, p)."""
    chosen = weights[torch.arange(n) % len(weights)]
    sizes = [t.size for t in spec.tensors]
    std = torch.cat([part.std(1, unbiased=False, keepdim=True).expand_as(part) for part in chosen.split(sizes, 1)], 1)
    return _valid(spec, chosen + strength * std * torch.randn(chosen.shape, generator=random))


def averages(weights: Flat, k: int, n: int, random: torch.Generator) -> Flat:
    """Means (n, p) of `k` random checkpoints among the first 2k."""
    among = weights[: 2 * k]
    return torch.stack([among[torch.randperm(len(among), generator=random)[:k]].mean(0) for _ in range(n)])


def gaussian(spec: ArchSpec, weights: Flat, n: int, random: torch.Generator) -> Flat:
    """Networks (n, p) whose parameters are drawn independently, each with its mean and deviation over the checkpoints."""
    mean, std = weights.mean(0), weights.std(0)
    return _valid(spec, mean + std * torch.randn(n, weights.shape[1], generator=random))


def latent_controls(
    generator: Generator, arch: str, data: DataSet, names: Sequence[str], n: int, seed: int
) -> Iterator[Control]:
    """Noise on the stored latents of checkpoints, and the kernel density over all stored latents.

    Args:
        names: data sets of the checkpoints that noise is added to.
    """
    random = torch.Generator().manual_seed(seed)
    rows = [code.row for code in generator.records if code.arch == arch and code.data in names]
    if rows:
        stored = generator.codes[rows][torch.arange(n) % len(rows)]
        for strength in LATENT_NOISE:
            latents = stored + strength * torch.randn(stored.shape, generator=random)
            yield Control(f"latent noise {strength:g}", "latent noise", strength, decoded(generator, arch, latents))
    kde = generator.sample(arch, data, n, seed=seed, sampling=Sampling(prior="kde", strength=1.0))
    yield Control("latent kde", "latent kde", None, decoded(generator, arch, kde))


@torch.no_grad()
def decoded(generator: Generator, arch: str, latents: Tensor) -> Flat:
    """Weights (n, p) of latents."""
    return generator.decode(arch, latents)


def _valid(spec: ArchSpec, weights: Flat) -> Flat:
    is_variance = torch.cat([torch.full((t.size,), t.kind == "norm_var") for t in spec.tensors])
    return torch.where(is_variance, weights.clamp_min(_SMALLEST_VARIANCE), weights)
