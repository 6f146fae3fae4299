"""Stage 5: a map from sentence embeddings to data set embeddings, for data sets that are given by a description."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from popgen.generator.generator import Generator
from popgen.generator.training.data import TrainingData
from popgen.generator.training.stage import Stage

_DRAWS = 16  # image embeddings whose mean is the target of a description
_BATCH = 64  # descriptions in a step, at most


def descriptions_stage(generator: Generator, data: TrainingData) -> Stage:
    """Make the stage: a description is mapped to the mean embedding of its data set's images; all else is frozen."""
    config, encoder = generator.config.describe, generator.data_encoder
    names, per_class = list(data.data_sets), generator.config.encoders.images_per_class
    with torch.no_grad():
        target = torch.stack(
            [encoder(torch.stack([data.draw_features(n, per_class) for _ in range(_DRAWS)])).mean(0) for n in names]
        )
    sentences = torch.stack([data.sentences[name] for name in names])
    encoder.set_texts(sentences)

    def losses(_: int) -> dict[str, Tensor]:
        pick = torch.randint(len(names), (min(len(names), _BATCH),))
        return {"description": F.mse_loss(encoder.from_text(sentences[pick]), target[pick])}

    return Stage(config.steps, config.learning_rate, list(encoder.read_text.parameters()), losses)
