"""Rivals of a search over some layers of a network: what needs only the base and a zoo of its fine-tunes.

They are the base itself, noise around it, the mean of all checkpoints, draws from the checkpoints' normal distribution with the layers
drawn together or each by itself, weighted means, and training from the base or from the mean. The draws have as many tries as the
search had evaluations, and the trainings as many passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice

import torch
from torch import Tensor

from popgen.baselines.rivals import RivalInputs, average_of_all, rival
from popgen.baselines.trained import cost_of_training, start_and_trained
from popgen.types import Flat

AROUND_BASE = ("base", "average_of_all")
DRAWN_AND_TRAINED = (
    "noise_around_base",
    "layerwise_gaussian",
    "joint_gaussian",
    "mixtures",
    "trained_base",
    "trained_average",
)
_SIZES = (0.25, 0.5, 1.0)  # sizes of the noise, in units of the checkpoints' distance from the base


@rival("base")
def base(given: RivalInputs) -> Iterator[Tensor]:
    """The base as it is."""
    if given.base is not None:
        yield given.base


@rival("noise_around_base")
def noise_around_base(given: RivalInputs) -> Iterator[Tensor]:
    """The base with normal noise, in each tensor as large as the checkpoints' differences from it, or a part of that."""
    if given.base is None or not given.records:
        return
    draws = torch.Generator().manual_seed(given.seed)
    squares = (given.weights - given.base).square().mean(0)
    parts = squares.split([tensor.size for tensor in given.spec.tensors])
    deviations = torch.cat([part.mean().sqrt().expand(len(part)) for part in parts])
    for size in islice(cycle(_SIZES), given.tries):
        yield given.base + size * deviations * torch.randn(deviations.shape, generator=draws)


@rival("layerwise_gaussian")
def layerwise_gaussian(given: RivalInputs) -> Iterator[Tensor]:
    """Draws from the normal distribution of the checkpoints' weights in each tensor, independently of the other tensors."""
    sizes = torch.tensor([tensor.size for tensor in given.spec.tensors])
    return _drawn(given, sizes)


@rival("joint_gaussian")
def joint_gaussian(given: RivalInputs) -> Iterator[Tensor]:
    """Draws from the normal distribution of the checkpoints' weights, all tensors together."""
    return _drawn(given, torch.tensor([given.spec.size]))


@rival("mixtures")
def mixtures(given: RivalInputs) -> Iterator[Tensor]:
    """Weighted means of all checkpoints, drawn evenly."""
    if len(given.records) < 2:
        return
    experts, draws = _aligned(given), torch.Generator().manual_seed(given.seed)
    for _ in range(given.tries):
        weights = torch.rand(len(experts), generator=draws).log().neg()  # exponential: uniform on the simplex
        yield weights / weights.sum() @ experts


@rival("trained_base", cost=lambda given, _: cost_of_training(given, 1), finished=True)
def trained_base(given: RivalInputs) -> Iterator[Tensor]:
    """The base, trained."""
    if given.base is not None:
        yield from start_and_trained(given, [given.base], 1)


@rival("trained_average", cost=lambda given, _: cost_of_training(given, 1), finished=True)
def trained_average(given: RivalInputs) -> Iterator[Tensor]:
    """The mean of all checkpoints, trained."""
    if given.records:
        yield from start_and_trained(given, average_of_all(given), 1)


def _drawn(given: RivalInputs, sizes: Tensor) -> Iterator[Tensor]:
    """As many draws as there are tries: mean + sum_i z_i (w_i - mean) / sqrt(n - 1), with normal z for each of the parts of these sizes."""
    if len(given.records) < 2:
        return
    experts, draws = _aligned(given), torch.Generator().manual_seed(given.seed)
    mean = experts.mean(0)
    steps = (experts - mean) / (len(experts) - 1) ** 0.5
    for _ in range(given.tries):
        coefficients = torch.randn(len(experts), len(sizes), generator=draws)
        moved = mean.clone()
        for step, own in zip(steps, coefficients, strict=True):
            moved += own.repeat_interleave(sizes) * step
        yield moved


def _aligned(given: RivalInputs) -> Flat:
    """Weights (n, p) of all checkpoints, aligned with the best where the search has aligned them."""
    return given.weights if given.align is None else given.align([given.records[i].id for i in given.ranked])
