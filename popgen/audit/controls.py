"""Cheap ways to make networks from training checkpoints, which a generator has to beat on the same axes.

Noise at a sweep of strengths, averages of several checkpoints, a Gaussian for each parameter (arXiv 2506.07998), and where there is a
generator noise on stored latents and a kernel density in latent space (hyper-representations, arXiv 2209.14733). Every control returns fresh
tensors, because an average computed in place makes later averages averages of averages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from popgen.archs import ArchSpec
from popgen.configs.sampling import Sampling
from popgen.data import DataSet
from popgen.generator import Generator
from popgen.types import Flat
from popgen.weights.noise import tensor_deviations, with_valid_variances

NOISE = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # standard deviations, in units of each tensor's own
AVERAGED = (2, 4, 8, 16)  # checkpoints in an average
LATENT_NOISE = (0.1, 0.3, 1.0)  # standard deviations, in units of each latent coordinate's own over the zoo


@dataclass(frozen=True)
class Control:
    """Networks of one kind, drawn when they are measured; `amount` is the strength of noise or the number of averaged ones."""

    name: str
    kind: str
    amount: float | None
    draw: Callable[[], Flat]  # weights (n, p); every call gives the same
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
    for strength in NOISE:
        draw = partial(noisy, spec, near, strength, n, seed)
        yield Control(f"noise {strength:g}", "noise", strength, draw, in_order=True)
    for kind, pool in (("average", close), ("aligned average", aligned)):
        for k in AVERAGED if pool is not None else ():
            if pool is not None and k <= len(pool):
                yield Control(f"{kind} of {k}", kind, k, partial(averages, pool, k, n, seed), in_order=True)
    if len(close) > 1:
        pool = near if len(near) >= AVERAGED[-1] else close[: max(len(near), AVERAGED[-1])]
        yield Control("Gaussian", "gaussian", None, partial(gaussian, spec, pool, n, seed), in_order=True)


def noisy(spec: ArchSpec, weights: Flat, strength: float, n: int, seed: int) -> Flat:
    """Checkpoints in turn, with normal noise of `strength` times each tensor's standard deviation; shape (n, p)."""
    random = torch.Generator().manual_seed(seed)
    chosen = weights[torch.arange(n) % len(weights)]
    std = torch.stack([tensor_deviations(spec, flat) for flat in chosen])
    return with_valid_variances(spec, chosen + strength * std * torch.randn(chosen.shape, generator=random))


def averages(weights: Flat, k: int, n: int, seed: int) -> Flat:
    """Means (n, p) of `k` random checkpoints among the first 2k."""
    random = torch.Generator().manual_seed(seed)
    among = weights[: 2 * k]
    return torch.stack([among[torch.randperm(len(among), generator=random)[:k]].mean(0) for _ in range(n)])


def gaussian(spec: ArchSpec, weights: Flat, n: int, seed: int) -> Flat:
    """Networks (n, p) whose parameters are drawn independently, each with its mean and deviation over the checkpoints."""
    random = torch.Generator().manual_seed(seed)
    mean, std = weights.mean(0), weights.std(0)
    return with_valid_variances(spec, mean + std * torch.randn(n, weights.shape[1], generator=random))


def latent_controls(
    generator: Generator, arch: str, data: DataSet, names: Sequence[str], n: int, seed: int
) -> Iterator[Control]:
    """Noise on the stored latents of checkpoints, and the kernel density over all stored latents.

    Args:
        names: data sets of the checkpoints that noise is added to.
    """
    rows = [code.row for code in generator.records if code.arch == arch and code.data in names]
    for strength in LATENT_NOISE if rows else ():
        draw = partial(_noisy_latents, generator, arch, rows, strength, n, seed)
        yield Control(f"latent noise {strength:g}", "latent noise", strength, draw)
    yield Control("latent kde", "latent kde", None, partial(_kernel_density, generator, arch, data, n, seed))


@torch.no_grad()
def _noisy_latents(generator: Generator, arch: str, rows: list[int], strength: float, n: int, seed: int) -> Flat:
    stored = generator.codes[rows][torch.arange(n) % len(rows)]
    noise = torch.randn(stored.shape, generator=torch.Generator().manual_seed(seed))
    return generator.decode(arch, stored + strength * noise)


@torch.no_grad()
def _kernel_density(generator: Generator, arch: str, data: DataSet, n: int, seed: int) -> Flat:
    how = Sampling(prior="kde", strength=1.0)
    return generator.decode(arch, generator.sample(arch, data, n, seed=seed, sampling=how))
