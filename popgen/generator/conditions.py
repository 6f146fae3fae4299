"""The two conditions of a generator as vectors: a data set's images, and an architecture's configuration.

Data set: open_clip features of a few training images of each class, through an intra-class and then an inter-class Set
Transformer (Lee et al., arXiv 1810.00825), as in D2NWG (arXiv 2402.18153). The result does not depend on the order of the
images. It does depend on which class is which, because output i of a network belongs to class i; the number of classes is
free. Architecture: the sentence embedding of its configuration, and the numbers that text embeddings blur.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from popgen.archs import ArchSpec
from popgen.encoders.arch import ArchTextEncoder
from popgen.generator.blocks import CrossBlock, SelfBlock
from popgen.generator.config import EncoderConfig

ARCH_NUMBERS = 8


class SetTransformer(nn.Module):
    """Set of vectors (n, m, width) to one vector (n, width): self-attention, then pooling by one learned query."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.block = SelfBlock(width, heads)
        self.query = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.pool = CrossBlock(width, heads)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.query.expand(len(x), -1, -1), self.block(x)).squeeze(1)


class DataSetEncoder(nn.Module):
    """Image features (n, classes, images, feature_dim) to an embedding (n, out) of each data set."""

    def __init__(self, config: EncoderConfig, feature_dim: int) -> None:
        super().__init__()
        self.read = nn.Linear(feature_dim, config.width)
        self.intra = SetTransformer(config.width, config.heads)
        self.inter = SetTransformer(config.width, config.heads)
        self.write = nn.Sequential(nn.LayerNorm(config.width), nn.Linear(config.width, config.out))

    def forward(self, features: Tensor, places: Sequence[int] | None = None) -> Tensor:
        """`places`: the class index that each row of classes had in training; None: 0, 1, 2, ..."""
        n, classes = features.shape[:2]
        per_class = self.intra(self.read(features).flatten(0, 1)).unflatten(0, (n, classes))
        index = torch.arange(classes) if places is None else torch.tensor(places)
        return self.write(self.inter(per_class + _class_places(index, per_class.shape[-1])))


def _class_places(index: Tensor, width: int) -> Tensor:
    """Sinusoidal features (classes, width) of the classes' indices, as for positions in a sentence."""
    rates = torch.exp(-math.log(10_000) * torch.arange(0, width, 2) / width)
    angles = index[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]


def arch_vectors(specs: list[ArchSpec], encoder: ArchTextEncoder) -> Tensor:
    """Sentence embeddings and numbers of architectures, shape (n, encoder.dim + ARCH_NUMBERS)."""
    text = encoder.encode([spec.config.text() for spec in specs])
    return torch.cat([text, torch.tensor([_numbers(spec) for spec in specs])], dim=1)


def _numbers(spec: ArchSpec) -> list[float]:
    """Size, depth and widths of a network, each of the order of 1."""
    matrices = [t for t in spec.tensors if t.kind in ("conv", "linear")]
    widths = [t.shape[0] for t in matrices] or [1]
    convolutions = sum(t.kind == "conv" for t in matrices)
    return [
        math.log(spec.size) / 16,
        len(matrices) / 32,
        convolutions / max(len(matrices), 1),
        math.log(max(widths)) / 8,
        math.log(sum(widths) / len(widths)) / 8,
        float(spec.has_batch_norm),
        math.log(spec.config.classes) / 8,
        math.log(math.prod(spec.config.input_shape)) / 16,
    ]
