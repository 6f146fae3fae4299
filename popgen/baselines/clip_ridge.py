"""The rival `clip_ridge`: weights predicted from CLIP features of a data set's images, without the generator's own encoder of data sets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from popgen.baselines.rivals import RivalInputs, ridge_weights, rival
from popgen.data import DataSet, load_data
from popgen.encoders.images import ImageEncoder

_IMAGES = 40  # training images of each class


@rival("clip_ridge")
def clip_ridge(given: RivalInputs) -> Iterator[Tensor]:
    """A ridge regression over the zoo from the mean CLIP features of each class; every data set of the zoo must be at hand."""
    if given.generator is None or not given.records:
        return
    encoder = given.generator.config.encoders.images
    known = {name: _features_of(name, given.data_dir, encoder) for name in {record.data for record in given.records}}
    yield from ridge_weights(given, known, _features(given.data, encoder))


@lru_cache(maxsize=1000)
def _features_of(name: str, data_dir: str | None, encoder: str) -> Tensor:
    return _features(load_data(name, data_dir), encoder)


def _features(data: DataSet, encoder: str) -> Tensor:
    """The mean features (classes * d,) of each class, one after the other."""
    images = data.per_class("train", _IMAGES, torch.Generator().manual_seed(0))
    return _encoder(encoder).features(images.flatten(0, 1)).unflatten(0, images.shape[:2]).mean(1).flatten()


@lru_cache(maxsize=1)
def _encoder(name: str) -> ImageEncoder:
    return ImageEncoder.load(name)
