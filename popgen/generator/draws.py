"""Which images stand for a data set in a generator's condition: draws of a few from a pool of its training images."""

from __future__ import annotations

import torch
from torch import Tensor

from popgen.configs.generator import EncoderConfig
from popgen.data import DataSet
from popgen.encoders.examples import ExampleEncoder

_POOL, _DRAWS = 40, 8  # images of each class that the encoder reads, and draws from them that are averaged
_UNLABELLED = 500  # images that it reads where the condition does without labels


def draw_features(data: DataSet, encoder: ExampleEncoder, config: EncoderConfig, n: int, seed: int) -> Tensor:
    """Features (n, draws, classes, images, features): 8 draws for each of `n` embeddings, whose mean that embedding is.

    They are from 40 training images a class; without labels (`encoders.labels: false`) from 500 of any class, as one class.

    One draw of a few images is noisy: held-out rotations had .933 with one, and .950 with many (cnn-s).
    """
    rng = torch.Generator().manual_seed(seed)
    if config.labels:
        pool = data.per_class("train", _POOL, rng)
    else:
        pool = data.train.inputs[torch.randperm(len(data.train), generator=rng)[:_UNLABELLED]][None]
    features = encoder.features(pool.flatten(0, 1)).unflatten(0, pool.shape[:2])
    draws = (n, _DRAWS, len(features), config.images_per_class)
    return features[torch.arange(len(features))[:, None], torch.randint(pool.shape[1], draws, generator=rng)]
