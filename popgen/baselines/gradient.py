"""The rival that searches the latent by gradients: the decoder is frozen, and the loss on training images moves one latent.

Backpropagation through a frozen generator instead of a search without gradients, at equal image passes; what decoding costs does not
count. A step's images count three passes, as in all training.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from popgen.baselines.rivals import RivalInputs, rival
from popgen.baselines.trained import Training, cost_of_training
from popgen.generator import Generator
from popgen.networks.episodes import ridge_loss
from popgen.networks.forward import behaviour_loss, network_features
from popgen.networks.threads import threads
from popgen.types import Latents

_SAMPLES = 16  # samples whose best is the start
_RATE = 0.05  # Adam's, in units of the latents' standard deviation over the zoo; it falls to zero linearly
# Where heads are fitted, one is fitted to half of a step's images: its penalty, and the factor of its scores.
_PENALTY, _SCALE = 0.1, 8.0


@rival("latent_gradient", cost=lambda given, _: cost_of_training(given, _SAMPLES))
def latent_gradient(given: RivalInputs) -> Iterator[Tensor]:
    """The best of sixteen samples, and what Adam on its latent makes of it."""
    generator, target = given.generator, given.target
    if generator is None or target is None or not (target.is_trained and generator.has_latents):
        return
    if given.fitness.head == "remap" or given.fitness.mask is not None or given.spec.is_adapter:
        return  # their losses are those of other networks than the decoded ones
    condition = given.condition or given.data
    latents = generator.sample(target.source, condition, _SAMPLES, seed=given.seed, sampling=given.sampling)
    networks = target.decoder(generator).weights_of_many(latents.flatten(1))
    best = min(range(_SAMPLES), key=lambda i: given.fitness.loss_of(networks[i]))
    yield networks[best]
    training = Training.of(given, _SAMPLES)
    if training is not None:
        moved = _moved(given, generator, latents[best], training)
        yield target.decoder(generator).weights(moved.flatten())


def _moved(given: RivalInputs, generator: Generator, latent: Latents, training: Training) -> Latents:
    """The latent (k, d) after Adam's steps on the training images."""
    draws = torch.Generator().manual_seed(given.seed)
    chosen = torch.randperm(len(given.data.train), generator=draws)[: training.images]
    batch = min(given.recipe.batch, len(chosen))
    steps = max(1, training.epochs * len(chosen) // batch)
    code = latent.clone().requires_grad_()
    optimizer = torch.optim.Adam([code], lr=_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    order = chosen[torch.randperm(len(chosen), generator=draws)]
    with threads(1), torch.enable_grad():
        for step in range(steps):
            first = step * batch % len(order)
            if first + batch > len(order):
                order, first = chosen[torch.randperm(len(chosen), generator=draws)], 0
            loss = _loss(given, generator, code, order[first : first + batch])
            (gradient,) = torch.autograd.grad(loss, code)
            code.grad = torch.nan_to_num(gradient)
            optimizer.step()
            schedule.step()
    return code.detach()


def _loss(given: RivalInputs, generator: Generator, code: Latents, pick: Tensor) -> Tensor:
    """The loss of the network of a latent on some training images; a head is fitted to the first half of them, where heads are."""
    name, spec, data = given.trained_arch, given.spec, given.data
    decoded = generator.vae.decode(generator.moved[name], generator.unstandardise(name, code[None]))
    flat = generator.scalings[name].denormalise(decoded)[0]
    inputs, targets = spec.config.inputs.prepare(data.train.inputs[pick]), data.train.targets[pick]
    if given.fitness.head != "refit":
        return behaviour_loss([spec], flat[None], [(inputs, targets)])
    features = network_features(spec, flat, inputs, differentiable=True)
    half, penalty, scale = len(pick) // 2, torch.tensor(_PENALTY), torch.tensor(_SCALE)
    return ridge_loss(features, targets, half, len(data.classes), penalty, scale)
