"""Weight space around trained networks, in a few coordinates: mixtures of experts, and low-rank steps away from one.

Mixing coefficients of their own for each group of layers are what evolutionary model merging searches (Akiba et al.,
arXiv 2403.13187); the groups are the network's stages. Low-rank steps are random matrices of rank one, as in LoRA (Hu et
al., arXiv 2106.09685) with both factors frozen, so that one coordinate moves all layers of a group.
Both have the interface of a generator's decoder: a vector to weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.types import Flat
from popgen.weights.mask import Mask
from popgen.weights.units import MATRICES, units_of

MAX_GROUPS = (
    6  # more of them are joined with their neighbours: a budget of a few hundred evaluations fits few coordinates
)
_MOST = 0.7  # a sequence with more than this share of the units is no stage
STEP = 0.05  # one unit of a low-rank coordinate moves a tensor by so many of its standard deviations
_LEAST_VARIANCE = 1e-5  # of a running variance: mixtures with negative coefficients could make it negative


def layer_groups(spec: ArchSpec) -> dict[str, list[str]]:
    """Names of groups, in the network's order, and of their tensors: the stem, each stage, the head.

    Layers of a sequence without stages are groups of their own, neighbours joined where there are more than MAX_GROUPS.

    >>> list(layer_groups(ArchSpec.from_config("resnet20")))
    ['stem', 'layer1', 'layer2', 'layer3', 'head']
    >>> layer_groups(ArchSpec.from_config("mlp-s"))
    {'1': ['1.weight', '1.bias'], 'head': ['3.weight', '3.bias']}
    """
    units = units_of(spec)
    sequences = [u.group[0] for u in units if u.group[0] not in ("", u.prefix) and not u.group[2]]
    stages = set(sequences)
    if any(sequences.count(stage) > _MOST * len(sequences) for stage in stages):
        stages = set()  # such as `features`, which holds them all
    groups: dict[str, list[str]] = {}
    label = "stem"
    for unit in units:
        if unit.group[2]:
            label = "head"
        elif not stages:
            has_matrix = any(t.kind in MATRICES for t in unit.roles.values())
            label = unit.prefix if has_matrix or not groups else label  # norm stays with the layer before it
        elif unit.group[0] in stages:
            label = unit.group[0]
        elif groups and label != "stem":
            label = unit.prefix if unit.matrices else label
        groups.setdefault(label, []).extend(t.name for t in unit.roles.values())
    return _joined(groups)


def _joined(groups: dict[str, list[str]]) -> dict[str, list[str]]:
    """At most MAX_GROUPS: neighbours before the head put together under the names of the first and the last."""
    body = [name for name in groups if name != "head"]
    room = MAX_GROUPS - ("head" in groups)
    if len(body) <= room:
        return groups
    joined = {}
    for part in np.array_split(np.array(body), room):
        names = part.tolist()
        label = names[0] if len(names) == 1 else f"{names[0]}..{names[-1]}"
        joined[label] = [tensor for name in names for tensor in groups[name]]
    return joined | ({"head": groups["head"]} if "head" in groups else {})


@dataclass(frozen=True)
class Around:
    """A network plus, for each group of layers, coefficients times directions.

    A vector holds coefficients (directions, groups), flat: zeros are the network itself.
    """

    spec: ArchSpec
    base: Tensor  # (p,)
    directions: Tensor  # (n, p), those of all groups side by side
    group_of: Tensor  # (p,), number of each value's group
    groups: tuple[str, ...]
    mask: Mask | None = None  # None: all tensors are moved

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return len(self.directions) * len(self.groups)

    def vector(self, coefficients: np.ndarray) -> np.ndarray:
        """The vector (dim,) of one coefficient a direction, the same in all groups."""
        return np.repeat(coefficients, len(self.groups))

    def weights(self, vector: np.ndarray | Tensor) -> Tensor:
        """Weights (p,) of a vector (dim,)."""
        return self.weights_of_many(vector[None])[0]

    @torch.no_grad()
    def weights_of_many(self, vectors: np.ndarray | Tensor) -> Tensor:
        """Weights (n, p) of vectors (n, dim)."""
        steps = torch.as_tensor(vectors).to(self.base).view(len(vectors), -1, len(self.groups))
        moved = self.base.repeat(len(vectors), 1)
        for step, direction in zip(steps.unbind(1), self.directions, strict=True):
            moved += step[:, self.group_of] * direction
        return _finished(self.spec, moved, self.mask)

    def to(self, device: str) -> Around:
        """The same on another device."""
        mask = None if self.mask is None else self.mask.to(device)
        base, directions, group_of = (t.to(device) for t in (self.base, self.directions, self.group_of))
        return replace(self, base=base, directions=directions, group_of=group_of, mask=mask)


def mixture(spec: ArchSpec, base: Tensor, experts: Flat, mask: Mask | None = None) -> Around:
    """base + coefficients * (expert - base), around a base (p,) and other experts (n, p), whose units are aligned with it.

    >>> spec = ArchSpec.from_config("mlp-s")
    >>> mixed = mixture(spec, torch.zeros(spec.size), torch.ones(1, spec.size))
    >>> bool((mixed.weights(np.ones(2)) == 1).all()), mixed.groups
    (True, ('1', 'head'))
    """
    groups, group_of = _numbered(spec)
    return Around(spec, base, experts - base, group_of, groups, mask)


def low_rank(spec: ArchSpec, base: Tensor, rank: int, seed: int, mask: Mask | None = None) -> Around:
    """An expert (p,) plus steps of rank one: `rank` random directions for each group of layers.

    Matrices move along an outer product of two normal vectors, biases and batch norm's weights along a normal vector, each
    with STEP standard deviations of the expert's tensor a unit; batch norm's statistics stay.

    >>> spec = ArchSpec.from_config("mlp-s")
    >>> around = low_rank(spec, torch.randn(spec.size), rank=3, seed=0)
    >>> around.dim, bool((around.weights(np.zeros(6)) == around.base).all())
    (6, True)
    """
    groups, group_of = _numbered(spec)
    generator, sizes = torch.Generator().manual_seed(seed), [t.size for t in spec.tensors]
    directions = torch.zeros(rank, spec.size)
    for step in directions:
        for t, place, values in zip(spec.tensors, step.split(sizes), base.split(sizes), strict=True):
            if t.kind not in ("norm_mean", "norm_var"):
                place.copy_(STEP * values.std(unbiased=False) * _rank_one(t.shape, t.kind, generator).flatten())
    return Around(spec, base, directions, group_of, groups, mask)


def _numbered(spec: ArchSpec) -> tuple[tuple[str, ...], Tensor]:
    groups = layer_groups(spec)
    number = {tensor: i for i, tensors in enumerate(groups.values()) for tensor in tensors}
    return tuple(groups), torch.cat([torch.full((t.size,), number[t.name]) for t in spec.tensors])


def _rank_one(shape: tuple[int, ...], kind: str, generator: torch.Generator) -> Tensor:
    """A random tensor of variance 1: rows times columns for a matrix, whose columns are a unit's whole kernel."""
    if kind not in MATRICES:
        return torch.randn(shape, generator=generator)
    rows = torch.randn(shape[0], *[1] * (len(shape) - 1), generator=generator)
    return rows * torch.randn(1, *shape[1:], generator=generator)


def _finished(spec: ArchSpec, weights: Flat, mask: Mask | None) -> Flat:
    """Running variances kept above zero; a base's tensors where only parts are searched."""
    for t, values in zip(spec.tensors, weights.split([t.size for t in spec.tensors], dim=1), strict=True):
        if t.kind == "norm_var":
            values.clamp_(min=_LEAST_VARIANCE)
    return weights if mask is None else mask.compose(weights)
