"""The rivals that train: by gradients on the training split, for as many image passes as the search's evaluations take.

A backward pass costs two forward passes, so that an image of a training step counts three. What choosing the start takes is spent before
the training. The start stands beside the trained network, and the validation loss chooses between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from popgen.archs import build
from popgen.baselines.latents import sampled
from popgen.baselines.rivals import RivalInputs, random_weights, rival
from popgen.fitness import scores_of
from popgen.networks.threads import threads
from popgen.networks.train import fit

_OF_A_STEP = 3  # passes of an image in a training step
_SAMPLES = 16  # samples that a trained sample is the best of
_CLIP = (
    1.0  # largest norm of a gradient; the first steps would otherwise destroy a head that was refitted in closed form
)


@dataclass(frozen=True)
class Training:
    """A training that a budget pays for: epochs over the first `images` training images of an order that the seed draws."""

    epochs: int
    images: int

    @classmethod
    def of(cls, given: RivalInputs, starts: int) -> Training | None:
        """The training for what so many starts leave of the budget; None where that is less than a batch."""
        left = given.evaluations - starts * given.fitness.cost - 1  # the trained network is scored once
        passes, images = left * given.passes_per_evaluation, len(given.data.train)
        epochs = int(passes / (_OF_A_STEP * images))
        if epochs:
            return cls(epochs, images)
        images = int(passes / _OF_A_STEP)
        return cls(1, images) if images >= min(given.recipe.batch, len(given.data.train)) else None

    def cost(self, given: RivalInputs) -> float:
        """The cost of the training in evaluations."""
        return _OF_A_STEP * self.epochs * self.images / given.passes_per_evaluation

    def run(self, given: RivalInputs, start: Tensor) -> Tensor:
        """Weights (p,) of the finished architecture after the training from `start` by the given recipe."""
        spec, draws = given.fitness.finished, torch.Generator().manual_seed(given.seed)
        part = given.data.train.take(torch.randperm(len(given.data.train), generator=draws)[: self.images])
        with threads(1):
            net = build(spec.config, seed=given.seed)
            net.load_state_dict(spec.to_state(start), strict=False)
            fit(net, spec.config, part, given.recipe.model_copy(update={"epochs": self.epochs}), draws, clip=_CLIP)
        return spec.to_flat(net.state_dict())


def cost_of_training(given: RivalInputs, starts: int) -> float:
    """The cost of so many starts, of the training after them, and of scoring its network."""
    training = Training.of(given, starts)
    return starts * given.fitness.cost + (0 if training is None else training.cost(given) + 1)


def start_and_trained(given: RivalInputs, starts: Iterable[Tensor], count: int) -> Iterator[Tensor]:
    """The best of `count` starts as a candidate is finished, and what the training makes of it."""
    scored = scores_of(given.fitness, starts)
    if not scored:
        return
    best = min(scored, key=lambda one: one.finite_loss)
    yield best.flat
    training = Training.of(given, count)
    if training is not None:
        yield training.run(given, best.flat)


@rival("finetuned_zoo", cost=lambda given, _: cost_of_training(given, len(given.records)), finished=True)
def finetuned_zoo(given: RivalInputs) -> Iterator[Tensor]:
    """The zoo's best, fine-tuned."""
    return start_and_trained(given, given.weights, len(given.records))


@rival("finetuned_sample", cost=lambda given, _: cost_of_training(given, _SAMPLES), finished=True)
def finetuned_sample(given: RivalInputs) -> Iterator[Tensor]:
    """The best of sixteen samples of the generator, fine-tuned."""
    return start_and_trained(given, sampled(given, _SAMPLES), _SAMPLES)


@rival("scratch", cost=lambda given, _: cost_of_training(given, 0), finished=True)
def scratch(given: RivalInputs) -> Iterator[Tensor]:
    """A fresh network, trained."""
    training = Training.of(given, 0)
    if training is not None:
        yield training.run(given, random_weights(given.fitness.finished, given.seed))
