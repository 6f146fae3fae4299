"""Cut a network's weights into tokens of a fixed width, and describe the position of each token.

A token is a slice of one tensor, padded with zeros. Its position is a vector of features of the tensor (kind, layer,
depth, fan-in and fan-out) and of the slice, never a token number, so that architectures unseen in training have
positions, too.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.archs.spec import KINDS
from popgen.types import Flat, Tokens

_WAVES = 6  # number of sine and cosine pairs for each of layer, slice offset and depth
POSITION_FEATURES = len(KINDS) + 6 * _WAVES + 5  # kind in one-hot, waves, logarithms of four sizes, slice offset


class TokenLayout:
    """The tokens of one architecture: the weights in each token, and its position.

    Args:
        width: the number of values in a token.

    Attributes:
        index: (t, width), index of each weight in the flat vector, -1 for padding.
        mask: (t, width), True for weights, False for padding.
        positions: (t, POSITION_FEATURES), features of each token's position.
    """

    def __init__(self, spec: ArchSpec, width: int) -> None:
        rows: list[Tensor] = []
        features: list[list[float]] = []
        start = 0
        for tensor in spec.tensors:
            count = math.ceil(tensor.size / width)
            indices = torch.full((count * width,), -1)
            indices[: tensor.size] = torch.arange(start, start + tensor.size)
            rows.append(indices.view(count, width))
            kind = [float(tensor.kind == k) for k in KINDS]
            sizes = [
                math.log(tensor.fan_in) / 8,
                math.log(tensor.fan_out) / 8,
                math.log(tensor.size) / 16,
                math.log(spec.size) / 16,
            ]
            for i in range(count):
                offset = i / count
                waves = _waves(tensor.layer / 64) + _waves(offset) + _waves(tensor.depth)
                features.append([*kind, *waves, *sizes, offset])
            start += tensor.size
        self.index = torch.cat(rows)
        self.mask = self.index >= 0
        self.positions = torch.tensor(features)
        order = self.index.flatten()[self.mask.flatten()].argsort()
        self._inverse = self.mask.flatten().nonzero().flatten()[order]  # (p,), index of each weight in flattened tokens

    def __len__(self) -> int:
        return len(self.index)

    def to_tokens(self, flat: Flat) -> Tokens:
        """Cut networks (n, p) into tokens (n, t, width), padded with zeros."""
        padded = torch.cat([flat, flat.new_zeros(len(flat), 1)], dim=1)
        return padded[:, self.index]

    def to_flat(self, tokens: Tokens) -> Flat:
        """Join tokens (n, t, width) to networks (n, p); values in the padding are dropped."""
        return tokens.flatten(1)[:, self._inverse]


def _waves(x: float) -> list[float]:
    """Return a Fourier encoding of x: the sine and cosine of pi x, 2 pi x, 4 pi x, ..., 2 * _WAVES numbers."""
    return [f(x * math.pi * 2**i) for i in range(_WAVES) for f in (math.sin, math.cos)]
