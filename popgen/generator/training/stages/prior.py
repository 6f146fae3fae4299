"""Stage 3: the prior learns the distribution of the latents under both conditions."""

from __future__ import annotations

import torch
from torch import Tensor

from popgen.generator.generator import Generator
from popgen.generator.training.data import TrainingData
from popgen.generator.training.stage import Stage
from popgen.types import Latents


def prior_stage(
    generator: Generator, data: TrainingData, codes: dict[str, Latents], embeddings: dict[str, Tensor]
) -> Stage:
    """Make the stage; its averaged parameters (EMA) are kept.

    Args:
        embeddings: draws (draws, out) of each data set's embedding. They are made once, for the encoder is frozen.
    """
    config = generator.config.prior
    return Stage(
        config.steps,
        config.learning_rate,
        list(generator.prior.parameters()),
        lambda _: _losses(generator, data, codes, embeddings),
        statistics=[generator.prior],
        ema=config.ema,
    )


@torch.no_grad()
def draw_embeddings(generator: Generator, data: TrainingData, draws: int = 64) -> dict[str, Tensor]:
    """Return `draws` embeddings (draws, out) of each data set with checkpoints, each from a new draw of its images."""
    generator.data_encoder.eval()
    per_class = generator.config.encoders.images_per_class
    return {
        name: generator.data_encoder(torch.stack([data.draw_features(name, per_class) for _ in range(draws)]))
        for name in data.with_checkpoints
    }


def _losses(
    generator: Generator, data: TrainingData, codes: dict[str, Latents], embeddings: dict[str, Tensor]
) -> dict[str, Tensor]:
    pairs = [(arch, i) for arch, own in data.archs.items() for i in range(len(own.records))]
    chosen = [pairs[i] for i in torch.randint(len(pairs), (generator.config.prior.batch,)).tolist()]
    z = torch.stack([codes[arch][i] for arch, i in chosen])
    drawn = [embeddings[data.archs[arch].records[i].data] for arch, i in chosen]
    condition = torch.stack([each[int(torch.randint(len(each), ()))] for each in drawn])
    condition = condition + generator.config.tune.condition_noise * torch.randn_like(condition)
    return generator.prior.losses(z, condition, torch.stack([data.archs[arch].vector for arch, _ in chosen]))
