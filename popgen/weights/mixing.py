"""Low-dimensional subspaces of weights around trained networks: mixtures of experts, and low-rank steps from one.

Mixtures have separate coefficients for each group of layers, as in evolutionary model merging (Akiba et al., arXiv
2403.13187); the groups are the network's stages. Low-rank steps are random matrices of rank one, as in LoRA (Hu et al.,
arXiv 2106.09685) with both factors frozen, so that one coordinate moves all layers of a group. Both have the interface
of a generator's decoder: they map a vector to weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.types import Flat
from popgen.weights.blocks import MATRICES, blocks_of
from popgen.weights.in_place import InPlace
from popgen.weights.mask import Mask

MAX_GROUPS = 6  # neighbours are joined until this holds: a few hundred evaluations can search few coordinates only
VARIANCE_KEPT = 0.99  # share of the experts' variance that their principal components explain
_FEWEST = 2  # components
TOWARDS = 0.25  # share of the way from the start to an expert that a coefficient of 1 is, in the space around a start
STEP = 0.05  # size of a low-rank step with coefficient 1, in standard deviations of the tensor that it is added to
_MAX_STAGE_SHARE = 0.7  # a sequence with a larger share of the blocks is not a stage
_MIN_VARIANCE = 1e-5  # lower bound of running variances, which negative coefficients could make negative


def layer_groups(spec: ArchSpec) -> dict[str, list[str]]:
    """Group the layers of a network into the stem, each stage and the head; return the tensor names of each group.

    In a network without stages each layer is a group. Neighbouring groups are joined if there are more than MAX_GROUPS.

    >>> list(layer_groups(ArchSpec.from_config("resnet20")))
    ['stem', 'layer1', 'layer2', 'layer3', 'head']
    >>> layer_groups(ArchSpec.from_config("mlp-s"))
    {'1': ['1.weight', '1.bias'], 'head': ['3.weight', '3.bias']}
    """
    blocks = blocks_of(spec)
    sequences = [b.sequence for b in blocks if b.sequence not in ("", b.prefix) and not b.is_head]
    stages = set(sequences)
    if any(sequences.count(stage) > _MAX_STAGE_SHARE * len(sequences) for stage in stages):
        stages = set()  # one sequence, often called `features`, contains nearly the whole network
    groups: dict[str, list[str]] = {}
    label = "stem"
    for block in blocks:
        if block.is_head:
            label = "head"
        elif not stages:
            has_matrix = any(t.kind in MATRICES for t in block.roles.values())
            label = block.prefix if has_matrix or not groups else label  # a norm joins the layer before it
        elif block.sequence in stages:
            label = block.sequence
        elif groups and label != "stem":
            label = block.prefix if block.matrices else label
        groups.setdefault(label, []).extend(t.name for t in block.roles.values())
    return _joined(groups)


def _joined(groups: dict[str, list[str]]) -> dict[str, list[str]]:
    """Join neighbouring groups before the head until there are at most MAX_GROUPS, named `first..last`."""
    body = [name for name in groups if name != "head"]
    limit = MAX_GROUPS - ("head" in groups)
    if len(body) <= limit:
        return groups
    joined = {}
    for part in np.array_split(np.array(body), limit):
        names = part.tolist()
        label = names[0] if len(names) == 1 else f"{names[0]}..{names[-1]}"
        joined[label] = [tensor for name in names for tensor in groups[name]]
    return joined | ({"head": groups["head"]} if "head" in groups else {})


@dataclass(frozen=True)
class WeightSubspace(InPlace):
    """The affine subspace base + coefficients * directions, with separate coefficients for each group of layers.

    A vector holds the coefficients (directions, groups), flattened. The zero vector gives the base.
    """

    spec: ArchSpec
    base: Tensor  # (p,), weights of a network
    directions: Tensor  # (k, p), each spans all groups
    group_of: Tensor  # (p,), index in `groups` of each weight's group
    groups: tuple[str, ...]  # names of the groups of layers
    mask: Mask | None = None  # tensors to move; None moves all of them

    @property
    def dim(self) -> int:
        """Length of a vector: the number of directions times the number of groups."""
        return len(self.directions) * len(self.groups)

    def vector(self, coefficients: np.ndarray) -> np.ndarray:
        """Return the vector (dim,) that uses coefficients (k,), one for each direction, in all groups alike."""
        return np.repeat(coefficients, len(self.groups))

    def weights(self, vector: np.ndarray | Tensor) -> Tensor:
        """Return the weights (p,) at a vector (dim,)."""
        return self.weights_of_many(vector[None])[0]

    @torch.no_grad()
    def weights_of_many(self, vectors: np.ndarray | Tensor) -> Tensor:
        """Return the weights (n, p) at vectors (n, dim)."""
        coefficients = torch.as_tensor(vectors).to(self.base).view(len(vectors), -1, len(self.groups))
        moved = self.base.repeat(len(vectors), 1)
        for coefficient, direction in zip(coefficients.unbind(1), self.directions, strict=True):
            moved += coefficient[:, self.group_of] * direction
        return _valid(self.spec, moved, self.mask)

    def to(self, device: str) -> WeightSubspace:
        """Return a copy on another device."""
        mask = None if self.mask is None else self.mask.to(device)
        base, directions, group_of = (t.to(device) for t in (self.base, self.directions, self.group_of))
        return replace(self, base=base, directions=directions, group_of=group_of, mask=mask)


def mixture(spec: ArchSpec, base: Tensor, experts: Flat, mask: Mask | None = None) -> WeightSubspace:
    """Return the subspace base + coefficients * (expert - base) of mixtures of experts.

    Args:
        base: weights (p,) of one expert.
        experts: weights (k, p) of the others, with their units aligned to those of the base.
        mask: tensors to move; None moves all of them.

    >>> spec = ArchSpec.from_config("mlp-s")
    >>> mixed = mixture(spec, torch.zeros(spec.size), torch.ones(1, spec.size))
    >>> bool((mixed.weights(np.ones(2)) == 1).all()), mixed.groups
    (True, ('1', 'head'))
    """
    groups, group_of = group_index(spec)
    return WeightSubspace(spec, base, experts - base, group_of, groups, mask)


def around(
    spec: ArchSpec, start: Tensor, experts: Flat, rank: int, seed: int, mask: Mask | None = None
) -> WeightSubspace:
    """Return the subspace around a network `start` (p,), such as a merge of the experts, with one coefficient for each expert and group.

    A coefficient of 1 is a TOWARDS share of the way to the expert (k, p). Behind the experts come `rank` low-rank steps from the
    start in each group. The zero vector is the start.

    >>> spec = ArchSpec.from_config("mlp-s")
    >>> space = around(spec, torch.zeros(spec.size), torch.ones(3, spec.size), rank=2, seed=0)
    >>> space.dim, float(space.weights(space.vector(np.array([1, 1, 0, 0, 0]))).mean()) == 2 * TOWARDS
    (10, True)
    """
    mixed, steps = mixture(spec, start, experts, mask), low_rank(spec, start, rank, seed, mask)
    return replace(mixed, directions=torch.cat([TOWARDS * mixed.directions, steps.directions]))


def principal(spec: ArchSpec, experts: Flat, mask: Mask | None = None) -> tuple[WeightSubspace, np.ndarray]:
    """Return the subspace of the principal components of experts (n, p), and the experts' vectors (n, components) in it.

    The zero vector is the mean of the experts, whose coordinates have variance 1, so that normal vectors are draws from the
    experts' normal distribution with all layers together. Components are kept up to VARIANCE_KEPT of the variance, and two of
    three experts or more: CMA takes no single coordinate.

    >>> spec = ArchSpec.from_config("mlp-s")
    >>> space, vectors = principal(spec, torch.stack([torch.zeros(spec.size), torch.ones(spec.size)]))
    >>> space.groups, bool((space.weights(vectors[1]) - 1).abs().max() < 1e-5)
    (('all',), True)
    """
    mean = experts.mean(0)
    steps = experts - mean
    variances, vectors = torch.linalg.eigh((steps @ steps.T).double())
    variances, vectors = variances.flip(0).clamp_min(0), vectors.flip(1).float()
    shares = variances.cumsum(0) / variances.sum().clamp_min(1e-30)
    count = min(max(int((shares < VARIANCE_KEPT).sum()) + 1, _FEWEST), max(len(experts) - 1, 1))
    scale = max(len(experts) - 1, 1) ** 0.5
    directions = vectors[:, :count].T @ steps / scale
    group_of = torch.zeros(spec.size, dtype=torch.long)
    return WeightSubspace(spec, mean, directions, group_of, ("all",), mask), (scale * vectors[:, :count]).numpy()


def low_rank(spec: ArchSpec, base: Tensor, rank: int, seed: int, mask: Mask | None = None) -> WeightSubspace:
    """Return the subspace of low-rank steps from an expert `base` (p,), with `rank` random directions in each group.

    In a matrix a direction is an outer product of two normal vectors, in biases and batch-norm weights a normal vector,
    in batch-norm statistics zero. It is scaled to STEP standard deviations of the expert's tensor.

    >>> spec = ArchSpec.from_config("mlp-s")
    >>> steps = low_rank(spec, torch.randn(spec.size), rank=3, seed=0)
    >>> steps.dim, bool((steps.weights(np.zeros(6)) == steps.base).all())
    (6, True)
    """
    groups, group_of = group_index(spec)
    generator, sizes = torch.Generator().manual_seed(seed), [t.size for t in spec.tensors]
    directions = torch.zeros(rank, spec.size)
    for direction in directions:
        for t, part, values in zip(spec.tensors, direction.split(sizes), base.split(sizes), strict=True):
            if t.kind not in ("norm_mean", "norm_var"):
                part.copy_(STEP * values.std(unbiased=False) * _rank_one(t.shape, t.kind, generator).flatten())
    return WeightSubspace(spec, base, directions, group_of, groups, mask)


def group_index(spec: ArchSpec) -> tuple[tuple[str, ...], Tensor]:
    """Return the names of the layer groups, and the index (p,) of each weight's group."""
    groups = layer_groups(spec)
    index = {tensor: i for i, tensors in enumerate(groups.values()) for tensor in tensors}
    return tuple(groups), torch.cat([torch.full((t.size,), index[t.name]) for t in spec.tensors])


def _rank_one(shape: tuple[int, ...], kind: str, generator: torch.Generator) -> Tensor:
    """Return a random tensor of variance 1; matrices are outer products of the first axis and all others."""
    if kind not in MATRICES:
        return torch.randn(shape, generator=generator)
    rows = torch.randn(shape[0], *[1] * (len(shape) - 1), generator=generator)
    return rows * torch.randn(1, *shape[1:], generator=generator)


def _valid(spec: ArchSpec, weights: Flat, mask: Mask | None) -> Flat:
    """Make running variances positive, in place, and apply the mask, if there is one."""
    for t, values in zip(spec.tensors, weights.split([t.size for t in spec.tensors], dim=1), strict=True):
        if t.kind == "norm_var":
            values.clamp_(min=_MIN_VARIANCE)
    return weights if mask is None else mask.compose(weights)
