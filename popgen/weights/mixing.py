"""Neighbourhoods of trained networks in a few coordinates: mixtures of experts, and low-rank steps away from an expert.

Evolutionary model merging searches mixing coefficients for each group of layers (Akiba et al., arXiv 2403.13187); here
the groups are the network's stages. Low-rank steps are random matrices of rank one, as in LoRA (Hu et al., arXiv
2106.09685) with both factors frozen, so that one coordinate moves all layers of a group. Both have the interface of a
generator's decoder: they map a vector to weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.types import Flat
from popgen.weights.blocks import MATRICES, blocks_of
from popgen.weights.mask import Mask

# Neighbouring groups are joined if there are more: a budget of a few hundred evaluations can fit few coordinates.
MAX_GROUPS = 6
_LARGEST_STAGE = 0.7  # A sequence with a larger share of the blocks is not a stage.
STEP = 0.05  # movement of a tensor, in its standard deviations, when a low-rank coordinate grows by 1
_LEAST_VARIANCE = 1e-5  # lower bound of running variances, which negative coefficients could make negative


def layer_groups(spec: ArchSpec) -> dict[str, list[str]]:
    """Return the names of the groups of layers, in the network's order, with the names of their tensors.

    The groups are the stem, each stage, and the head. In a network without stages each layer is a group, and neighbours
    are joined if there are more than MAX_GROUPS.

    >>> list(layer_groups(ArchSpec.from_config("resnet20")))
    ['stem', 'layer1', 'layer2', 'layer3', 'head']
    >>> layer_groups(ArchSpec.from_config("mlp-s"))
    {'1': ['1.weight', '1.bias'], 'head': ['3.weight', '3.bias']}
    """
    blocks = blocks_of(spec)
    sequences = [b.sequence for b in blocks if b.sequence not in ("", b.prefix) and not b.is_head]
    stages = set(sequences)
    if any(sequences.count(stage) > _LARGEST_STAGE * len(sequences) for stage in stages):
        stages = set()  # One sequence, such as `features`, holds nearly all layers.
    groups: dict[str, list[str]] = {}
    label = "stem"
    for block in blocks:
        if block.is_head:
            label = "head"
        elif not stages:
            has_matrix = any(t.kind in MATRICES for t in block.roles.values())
            label = block.prefix if has_matrix or not groups else label  # A norm belongs to the layer before it.
        elif block.sequence in stages:
            label = block.sequence
        elif groups and label != "stem":
            label = block.prefix if block.matrices else label
        groups.setdefault(label, []).extend(t.name for t in block.roles.values())
    return _joined(groups)


def _joined(groups: dict[str, list[str]]) -> dict[str, list[str]]:
    """Join neighbours before the head until there are MAX_GROUPS; a joined group is named FIRST..LAST."""
    body = [name for name in groups if name != "head"]
    room = MAX_GROUPS - ("head" in groups)
    if len(body) <= room:
        return groups
    joined = {}
    for neighbours in np.array_split(np.array(body), room):
        names = neighbours.tolist()
        label = names[0] if len(names) == 1 else f"{names[0]}..{names[-1]}"
        joined[label] = [tensor for name in names for tensor in groups[name]]
    return joined | ({"head": groups["head"]} if "head" in groups else {})


@dataclass(frozen=True)
class Around:
    """A network plus, in each group of layers, a sum of coefficients times directions.

    A vector has the coefficients (directions, groups), flattened; zeros give the network itself.
    """

    spec: ArchSpec
    base: Tensor  # (p,)
    directions: Tensor  # (n, p), the directions in all groups
    group_of: Tensor  # (p,), index of the group of each value
    groups: tuple[str, ...]
    mask: Mask | None = None  # None: all tensors move

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return len(self.directions) * len(self.groups)

    def vector(self, coefficients: np.ndarray) -> np.ndarray:
        """Return the vector (dim,) that has these coefficients (directions,) in all groups."""
        return np.repeat(coefficients, len(self.groups))

    def weights(self, vector: np.ndarray | Tensor) -> Tensor:
        """Return the weights (p,) of a vector (dim,)."""
        return self.weights_of_many(vector[None])[0]

    @torch.no_grad()
    def weights_of_many(self, vectors: np.ndarray | Tensor) -> Tensor:
        """Return the weights (n, p) of vectors (n, dim)."""
        steps = torch.as_tensor(vectors).to(self.base).view(len(vectors), -1, len(self.groups))
        moved = self.base.repeat(len(vectors), 1)
        for step, direction in zip(steps.unbind(1), self.directions, strict=True):
            moved += step[:, self.group_of] * direction
        return _finished(self.spec, moved, self.mask)

    def to(self, device: str) -> Around:
        """Return a copy on another device."""
        mask = None if self.mask is None else self.mask.to(device)
        base, directions, group_of = (t.to(device) for t in (self.base, self.directions, self.group_of))
        return replace(self, base=base, directions=directions, group_of=group_of, mask=mask)


def mixture(spec: ArchSpec, base: Tensor, experts: Flat, mask: Mask | None = None) -> Around:
    """Return base + coefficients * (expert - base), for a base (p,) and experts (n, p) that are aligned with it.

    >>> spec = ArchSpec.from_config("mlp-s")
    >>> mixed = mixture(spec, torch.zeros(spec.size), torch.ones(1, spec.size))
    >>> bool((mixed.weights(np.ones(2)) == 1).all()), mixed.groups
    (True, ('1', 'head'))
    """
    groups, group_of = _numbered(spec)
    return Around(spec, base, experts - base, group_of, groups, mask)


def low_rank(spec: ArchSpec, base: Tensor, rank: int, seed: int, mask: Mask | None = None) -> Around:
    """Return an expert (p,) plus steps of rank one: `rank` random directions for each group of layers.

    Matrices move along the outer product of two normal vectors, biases and batch norm's weights along a normal vector.
    A coefficient of 1 moves a tensor by STEP of its standard deviations. Batch norm's statistics do not move.

    >>> spec = ArchSpec.from_config("mlp-s")
    >>> around = low_rank(spec, torch.randn(spec.size), rank=3, seed=0)
    >>> around.dim, bool((around.weights(np.zeros(6)) == around.base).all())
    (6, True)
    """
    groups, group_of = _numbered(spec)
    generator, sizes = torch.Generator().manual_seed(seed), [t.size for t in spec.tensors]
    directions = torch.zeros(rank, spec.size)
    for step in directions:
        for t, moved, values in zip(spec.tensors, step.split(sizes), base.split(sizes), strict=True):
            if t.kind not in ("norm_mean", "norm_var"):
                moved.copy_(STEP * values.std(unbiased=False) * _rank_one(t.shape, t.kind, generator).flatten())
    return Around(spec, base, directions, group_of, groups, mask)


def _numbered(spec: ArchSpec) -> tuple[tuple[str, ...], Tensor]:
    """Return the names of the groups of layers, and the index of each value's group (p,)."""
    groups = layer_groups(spec)
    number = {tensor: i for i, tensors in enumerate(groups.values()) for tensor in tensors}
    return tuple(groups), torch.cat([torch.full((t.size,), number[t.name]) for t in spec.tensors])


def _rank_one(shape: tuple[int, ...], kind: str, generator: torch.Generator) -> Tensor:
    """Return a random tensor of variance 1; a matrix or kernel is an outer product over its first axis and the others."""
    if kind not in MATRICES:
        return torch.randn(shape, generator=generator)
    rows = torch.randn(shape[0], *[1] * (len(shape) - 1), generator=generator)
    return rows * torch.randn(1, *shape[1:], generator=generator)


def _finished(spec: ArchSpec, weights: Flat, mask: Mask | None) -> Flat:
    """Clamp running variances above zero, and set the tensors outside the mask to the base's."""
    for t, values in zip(spec.tensors, weights.split([t.size for t in spec.tensors], dim=1), strict=True):
        if t.kind == "norm_var":
            values.clamp_(min=_LEAST_VARIANCE)
    return weights if mask is None else mask.compose(weights)
