"""Stage 2: the data set encoder learns embeddings from which the latents of a data set's checkpoints can be told."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popgen.generator.generator import Generator
from popgen.generator.training.data import TrainingData
from popgen.generator.training.stage import Stage
from popgen.types import Latents

_SHARED_DIM = 32  # dimensions of the space in which embeddings and latents are compared
_LARGEST_SCALE = 100  # upper bound of the logits' scale, as in CLIP


def data_encoder_stage(generator: Generator, data: TrainingData, codes: dict[str, Latents]) -> Stage:
    """Make the stage. A positive pair is a draw of a data set's images, and the latent of a checkpoint trained on it."""
    config = generator.config.encoders
    coordinates = generator.codes[0].numel()
    project = nn.ModuleDict({"data": nn.Linear(config.out, _SHARED_DIM), "latent": nn.Linear(coordinates, _SHARED_DIM)})
    predict = nn.ModuleDict({arch: nn.Linear(config.out, coordinates) for arch in data.archs})
    scale = nn.ParameterList([torch.tensor(1 / config.temperature).log()])
    archs, with_checkpoints = list(data.archs), data.with_checkpoints

    def losses(step: int) -> dict[str, Tensor]:
        arch = archs[step % len(archs)]
        rows = data.archs[arch].rows
        known = [name for name in with_checkpoints if name in rows]
        chosen = [known[i] for i in torch.randperm(len(known))[: config.batch].tolist()]
        if len(chosen) == 1:
            chosen = chosen * 2  # The loss needs two draws; of one data set there is nothing to tell apart.
        embedding = generator.data_encoder(
            torch.stack([data.draw_features(n, config.images_per_class) for n in chosen])
        )
        pick = [rows[n][int(torch.randint(len(rows[n]), ()))] for n in chosen]
        latents = ((codes[arch][pick] - generator.prior.latent_mean) / generator.prior.latent_std).flatten(1)
        left = F.normalize(project["data"](embedding), dim=1)
        right = F.normalize(project["latent"](latents), dim=1)
        logits = scale[0].exp().clamp_max(_LARGEST_SCALE) * left @ right.T
        target = torch.arange(len(chosen))
        contrast = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2 * (len(known) > 1)
        return {
            "contrastive": contrast,
            "regression": config.regression * F.mse_loss(predict[arch](embedding), latents),
        }

    own = nn.ModuleDict({"project": project, "predict": predict, "scale": scale})
    return Stage(
        config.steps,
        config.learning_rate,
        [*generator.data_encoder.parameters(), *own.parameters()],
        losses,
        extra=own,
        statistics=[generator.data_encoder.standardise],
    )
