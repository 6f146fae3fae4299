"""The rivals that sample a generator and search nothing: as many samples as the search had evaluations, the best by validation loss.

`samples` have the run's condition; `shuffled_samples` and `empty_samples` have other data sets' conditions and none;
`random_latents` are drawn from a standard normal distribution, which the latents of the zoo have in mean and variance.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from popgen.baselines.rivals import RivalInputs, rival
from popgen.generator.controls import Control

_AT_ONCE = 64  # latents that are decoded together


@rival("random_latents")
def random_latents(given: RivalInputs) -> Iterator[Tensor]:
    """Networks of latents from a standard normal distribution."""
    if given.generator is None or given.target is None:
        return
    draws = torch.Generator().manual_seed(given.seed)
    shape = given.generator.latent_shape
    yield from _decoded(given, torch.randn(given.tries, *shape, generator=draws))


@rival("sample")
def one_sample(given: RivalInputs) -> Iterator[Tensor]:
    """A network under the run's condition, which nothing chose."""
    return sampled(given, 1)


@rival("samples")
def samples(given: RivalInputs) -> Iterator[Tensor]:
    """Networks under the run's condition."""
    return sampled(given, given.tries)


@rival("shuffled_samples")
def shuffled_samples(given: RivalInputs) -> Iterator[Tensor]:
    """Networks under the conditions of other data sets."""
    return sampled(given, given.tries, "shuffled")


@rival("empty_samples")
def empty_samples(given: RivalInputs) -> Iterator[Tensor]:
    """Networks under no condition, where the prior has one."""
    if given.generator is None or given.generator.prior_name(given.sampling.prior) != "network":
        return iter(())
    return sampled(given, given.tries, "empty")


def sampled(given: RivalInputs, n: int, control: Control | None = None) -> Iterator[Tensor]:
    """`n` networks of the generator, none without a generator."""
    generator, target = given.generator, given.target
    if generator is None or target is None:
        return
    condition = given.condition or given.data
    yield from _decoded(
        given, generator.sample(target.source, condition, n, seed=given.seed, sampling=given.sampling, control=control)
    )


def _decoded(given: RivalInputs, latents: Tensor) -> Iterator[Tensor]:
    assert given.generator is not None and given.target is not None
    decoder = given.target.decoder(given.generator)
    for some in latents.flatten(1).split(_AT_ONCE):
        yield from decoder.weights_of_many(some)
