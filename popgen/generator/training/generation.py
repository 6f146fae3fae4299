"""A watch of networks that a generator in training makes: their scores on validation images, which no stage trains on."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean

import torch

from popgen.generator.generator import Generator
from popgen.generator.training.data import TrainingData
from popgen.networks.forward import task_score
from popgen.tasks import get_task

_DATA_SETS = 16  # data sets of each architecture for which a network is generated, at most


def generated_watch(
    generator: Generator, data: TrainingData, names: dict[str, list[str]]
) -> Callable[[], dict[str, float]]:
    """Return a function that computes the mean validation score of one generated network for each of some data sets.

    The images of the conditions and the noise are the same each time, and torch's global random numbers are left as they are.

    Args:
        names: the data sets of each architecture, of which every nth is taken.
    """
    chosen = {arch: own[:: -(-len(own) // _DATA_SETS)] for arch, own in names.items()}
    [unit, *others] = {get_task(generator.spec(arch).config.task).unit for arch in chosen}
    modules = [generator.data_encoder, generator.prior.mean]

    def watch() -> dict[str, float]:
        training = [module.training for module in modules]
        for module in modules:
            module.eval()
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            score = mean(_mean_score(generator, data, arch, own) for arch, own in chosen.items())
        for module, mode in zip(modules, training, strict=True):
            module.train(mode)
        return {f"generated {'score' if others else unit}": score}

    return watch


def _mean_score(generator: Generator, data: TrainingData, arch: str, names: list[str]) -> float:
    own, per_class = data.archs[arch], generator.config.encoders.images_per_class
    embeddings = generator.data_encoder(torch.stack([data.draw_features(name, per_class) for name in names]))
    noise = torch.randn(len(names), *generator.latent_shape)
    z = generator.prior.sample(embeddings, own.vector.expand(len(names), -1), noise)
    flats = own.scaling.denormalise(generator.vae.decode(generator.moved[arch], z))
    scores = [task_score(own.spec, flat, data.data_sets[name]) for flat, name in zip(flats, names, strict=True)]
    return mean(scores)
