"""Tokens: a network's values in slices of a fixed width, each with features of its position.

A token is a slice of one tensor, padded with zeros. Its position is a vector of features of the tensor (kind, layer,
depth, fans) and of the slice. There are no row numbers, so tokens of untrained architectures have positions, too.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.archs.spec import KINDS
from popgen.types import Flat, Tokens

_WAVES = 6  # pairs of sine and cosine for each of layer, offset of the slice, and depth
POSITION_FEATURES = len(KINDS) + 6 * _WAVES + 5


class TokenLayout:
    """The mapping between the flat vector of an architecture and its tokens.

    Attributes:
        index: (t, width), index in the flat vector, or -1 for padding.
        mask: (t, width), False for padding.
        positions: (t, POSITION_FEATURES), features of each token's position.
    """

    def __init__(self, spec: ArchSpec, width: int) -> None:
        rows: list[Tensor] = []
        features: list[list[float]] = []
        start = 0
        for tensor in spec.tensors:
            count = math.ceil(tensor.size / width)
            block = torch.full((count * width,), -1)
            block[: tensor.size] = torch.arange(start, start + tensor.size)
            rows.append(block.view(count, width))
            kind = [float(tensor.kind == k) for k in KINDS]
            fans = [
                math.log(tensor.fan_in) / 8,
                math.log(tensor.fan_out) / 8,
                math.log(tensor.size) / 16,
                math.log(spec.size) / 16,
            ]
            for i in range(count):
                offset = i / count
                waves = _waves(tensor.layer / 64) + _waves(offset) + _waves(tensor.depth)
                features.append([*kind, *waves, *fans, offset])
            start += tensor.size
        self.index = torch.cat(rows)
        self.mask = self.index >= 0
        self.positions = torch.tensor(features)
        self._inverse = self.index.flatten()[self.mask.flatten()].argsort()
        self._slots = self.mask.flatten().nonzero().flatten()[self._inverse]

    def __len__(self) -> int:
        return len(self.index)

    def to_tokens(self, flat: Flat) -> Tokens:
        """Return tokens (n, t, width) of flat vectors (n, p), padded with zeros."""
        padded = torch.cat([flat, flat.new_zeros(len(flat), 1)], dim=1)
        return padded[:, self.index]

    def to_flat(self, tokens: Tokens) -> Flat:
        """Return flat vectors (n, p) of tokens (n, t, width), without the padding."""
        return tokens.flatten(1)[:, self._slots]


def _waves(x: float) -> list[float]:
    return [f(x * math.pi * 2**i) for i in range(_WAVES) for f in (math.sin, math.cos)]
