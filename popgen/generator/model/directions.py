"""Directions from the base of an architecture, and the coordinates along them that the embedding of a data set proposes.

A network is base + coordinates x directions, with a coordinate for each direction and group of layers (popgen/weights/mixing.py).
The zero vector is the base, which so always stands in the space. Running statistics of batch norm and the head stay those of
the base: the head is fitted to each data set in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from popgen.archs import ArchSpec
from popgen.weights.mixing import WeightSubspace, group_index


class Directions(nn.Module):
    """The directions of one architecture; they begin as zeros, and the proposal as the whole way along their mean."""

    def __init__(self, spec: ArchSpec, count: int, width: int) -> None:
        super().__init__()
        self.spec = spec
        with torch.device("cpu"):
            self.groups = body_groups(spec)[0]
        # Parameters of their own, so that an optimizer leaves those alone that a step does not train.
        self.steps = nn.ParameterList([torch.zeros(spec.size) for _ in range(count)])
        self.propose = nn.Linear(width, count * len(self.groups))
        nn.init.zeros_(self.propose.weight)
        nn.init.constant_(self.propose.bias, 1 / count)

    @cached_property
    def group_of(self) -> Tensor:
        """The index (p,) of each weight's group."""
        return body_groups(self.spec)[1].to(self.steps[0].device)

    @cached_property
    def moves(self) -> Tensor:
        """Whether each weight (p,) may move."""
        head = f"{self.spec.head}."
        fixed = [t.kind in ("norm_mean", "norm_var") or t.name.startswith(head) for t in self.spec.tensors]
        sizes = [t.size for t in self.spec.tensors]
        parts = [torch.full((size,), not stays) for size, stays in zip(sizes, fixed, strict=True)]
        return torch.cat(parts).to(self.steps[0].device)

    @property
    def dim(self) -> int:
        """Number of coordinates: the directions times the groups."""
        return len(self.steps) * len(self.groups)

    def weights(self, base: Tensor, coordinates: Tensor) -> Tensor:
        """Return the weights (p,) at coordinates (dim,); differentiable with respect to these, and not to the directions."""
        along = coordinates.view(len(self.steps), -1)[:, self.group_of]
        return base + self.moves * sum(share * step.detach() for share, step in zip(along, self.steps, strict=True))

    def line(self, base: Tensor, direction: int, share: float) -> Tensor:
        """Return the weights (p,) at a share of the way along one direction; differentiable with respect to it."""
        return base + share * self.moves * self.steps[direction]

    def space(self, base: Tensor) -> WeightSubspace:
        """Return the directions as a space of weights that a search moves in."""
        steps = torch.stack([step.detach() for step in self.steps])
        return WeightSubspace(self.spec, base, self.moves * steps, self.group_of, self.groups)


@dataclass(frozen=True)
class Start:
    """A network that directions start from, with these."""

    id: str  # in the zoo; empty where that is not known
    base: Tensor  # its weights (p,)
    directions: Directions


def body_groups(spec: ArchSpec) -> tuple[tuple[str, ...], Tensor]:
    """Return the names of the groups of layers before the head, and the index (p,) of each weight's group; the head joins the last.

    >>> body_groups(ArchSpec.from_config("resnet20"))[0]
    ('stem', 'layer1', 'layer2', 'layer3')
    """
    names, group_of = group_index(spec)
    body = tuple(name for name in names if name != "head")
    return (body, group_of.clamp_max(len(body) - 1)) if body else (names, group_of)
