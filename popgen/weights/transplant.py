"""Transplant weights from one architecture to another: select or duplicate units, and drop or insert blocks of layers.

A narrower layer keeps some of its units, evenly spaced (weight selection, Xu et al., arXiv 2311.18823) or the most
important. A wider layer duplicates units and divides their outgoing weights among the duplicates, so that the outputs
stay (Net2WiderNet, Chen et al., arXiv 1511.05641). An inserted layer starts as the identity, an inserted residual block
with a branch that adds zero.

All axes with the same widths in source and target keep the same units. Residual connections require this, and it makes
the inputs of a layer match the outputs of the layer before. Where all widths grow by one factor, evenly duplicated
units also agree with shortcuts that pad with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from popgen.archs import ArchSpec, TensorSpec, build
from popgen.errors import BadInput
from popgen.types import Flat
from popgen.weights.blocks import MATRICES, Block, blocks_of, match_blocks

KeptUnits = Literal["even", "important"]  # units that a narrower layer keeps: evenly spaced or the most important ones
_Widths = tuple[int, int]  # sizes of an axis in the source and in the target
# Value of each kind of vector with which a layer leaves its activations unchanged.
_IDENTITY = {"norm_weight": 1.0, "norm_bias": 0.0, "norm_mean": 0.0, "norm_var": 1.0, "bias": 0.0}


@dataclass(frozen=True)
class Changes:
    """Changes made by a transplant: prefixes of the blocks that get narrower or wider, are inserted or are dropped."""

    narrower: list[str]
    wider: list[str]
    inserted: list[str]
    dropped: list[str]

    def text(self) -> str:
        """Return the changes in words.

        >>> Changes(["0", "3"], [], ["5"], []).text()
        'narrowed 0, 3; inserted 5 as identity'
        """
        parts = [
            f"narrowed {', '.join(self.narrower)}" if self.narrower else "",
            f"widened {', '.join(self.wider)}" if self.wider else "",
            f"inserted {', '.join(self.inserted)} as identity" if self.inserted else "",
            f"dropped {', '.join(self.dropped)}" if self.dropped else "",
        ]
        return "; ".join(part for part in parts if part) or "nothing changed"


@dataclass(frozen=True)
class Transplant:
    """The map target = source[index] * factor + constant from networks of p weights to networks of q weights."""

    source: ArchSpec
    target: ArchSpec
    index: Tensor  # (q,), index of a source weight for each target weight
    factor: Tensor  # (q,), zero where a weight is not taken from the source
    constant: Tensor  # (q,)
    changes: Changes
    widths: tuple[_Widths, ...]  # numbers of output units in source and target, for each matrix that is in both

    def __call__(self, weights: Flat) -> Flat:
        """Return weights (n, q) of the target, made from weights (n, p) of the source."""
        return weights[:, self.index] * self.factor + self.constant

    def to(self, device: str) -> Transplant:
        """Return a copy on another device."""
        return replace(
            self, index=self.index.to(device), factor=self.factor.to(device), constant=self.constant.to(device)
        )


def plan_transplant(
    source: ArchSpec,
    target: ArchSpec,
    flat: Tensor | None = None,
    *,
    keep: KeptUnits = "even",
    spread: float = 0.0,
    seed: int = 0,
) -> Transplant:
    """Plan how weights of `source` are converted to weights of `target`.

    Args:
        flat: typical weights (p,) of the source, on which `keep="important"` measures the importance of units.
        keep: units that a narrower layer keeps, evenly spaced ones or those with the largest weights, in and out.
        spread: standard deviation of random differences between the shares that duplicates have in the outgoing weights
            of their unit, relative to an equal share. The outputs do not depend on it, but duplicates with equal shares
            would stay equal in training, and the network would remain as narrow as it was.
        seed: seed of these shares and of the initial weights in the branches of inserted residual blocks.

    Raises:
        BadInput: kernels, classes or inputs differ, or `keep` is "important" and `flat` is None.

    >>> source, target = (ArchSpec.from_config(f"mlp-s/hidden:{n}") for n in (64, 96))
    >>> plan = plan_transplant(source, target)
    >>> plan(torch.ones(2, source.size)).shape == (2, target.size), plan.changes.text()
    (True, 'widened 1')
    """
    if flat is None and keep == "important":
        raise BadInput(
            f"keep={keep!r} needs weights of {source.name!r}",
            "the importance of a unit is measured on them",
            "Pass flat, or keep='even'.",
        )
    return _Planner(source, target, flat, keep, spread, seed).plan()


class _Planner:
    """Builds index, factor and constant of a transplant, tensor by tensor of the target."""

    def __init__(
        self, source: ArchSpec, target: ArchSpec, flat: Tensor | None, keep: KeptUnits, spread: float, seed: int
    ) -> None:
        self.source, self.target, self.spread = source, target, spread
        self.flat_index = source.to_state(torch.arange(source.size))  # index of each weight in the flat vector
        self.state = None if flat is None else source.to_state(flat)
        initial = build(target.config, seed=seed).state_dict()
        # These have an entry for each target tensor. A tensor without a counterpart in the source keeps its initial
        # weights, unless it is set to the identity.
        self.index = {t.name: torch.zeros(t.shape, dtype=torch.long) for t in target.tensors}
        self.factor = {t.name: torch.zeros(t.shape) for t in target.tensors}
        self.constant = {t.name: initial[t.name].detach().clone().float() for t in target.tensors}
        self.generator = torch.Generator().manual_seed(seed)
        matched, dropped = match_blocks(blocks_of(source), blocks_of(target))
        self.pairs = list(zip(blocks_of(target), matched, strict=True))
        self.dropped = [block.prefix for block in dropped]
        self.tensor_pairs = [pair for block, old in self.pairs if old for pair in self._tensor_pairs(block, old)]
        self.importance = self._importance() if keep == "important" else {}

    def plan(self) -> Transplant:
        """Return the transplant: copied and inserted tensors, joined to vectors (q,)."""
        out_widths: _Widths = (self.target.config.inputs.example().shape[1],) * 2
        for block, old in self.pairs:
            in_widths = out_widths  # a block reads the outputs of the block before it
            if block.matrices:
                source_width = old.matrices[-1].shape[0] if old and old.matrices else in_widths[0]
                out_widths = (source_width, block.matrices[-1].shape[0])
            if old is None:
                self._insert(block, block.roles, in_widths, out_widths, zero_branch=block.is_residual)
                continue
            added = {role: t for role, t in block.roles.items() if role not in old.roles}
            self._insert(block, added, in_widths, out_widths, zero_branch=False)
        for pair in self.tensor_pairs:
            self._copy(*pair)
        index, factor, constant = (
            torch.cat([values[t.name].reshape(-1) for t in self.target.tensors])
            for values in (self.index, self.factor, self.constant)
        )
        widths = tuple(outputs for _, _, outputs, inputs in self.tensor_pairs if inputs is not None)
        return Transplant(self.source, self.target, index, factor, constant, self._changes(), widths)

    def _tensor_pairs(self, block: Block, old: Block) -> list[tuple[TensorSpec, TensorSpec, _Widths, _Widths | None]]:
        """Return pairs of target and source tensors, with the widths of outputs and, for matrices, of inputs."""
        pairs: list[tuple[TensorSpec, TensorSpec, _Widths, _Widths | None]] = []
        for role, new in block.roles.items():
            if role not in old.roles:
                continue
            was = old.roles[role]
            if new.kind != was.kind or new.shape[2:] != was.shape[2:] or len(new.shape) != len(was.shape):
                raise self._misfit(new, was, "their kinds or kernels differ")
            if new.shape != was.shape and (
                new.kind in ("other", "embedding") or block.is_head and new.shape[0] != was.shape[0]
            ):
                raise self._misfit(new, was, "inputs and classes cannot be cut or repeated")
            if not new.shape:
                pairs.append((new, was, (1, 1), None))
                continue
            out_widths = (was.shape[0], new.shape[0])
            pairs.append((new, was, out_widths, (was.shape[1], new.shape[1]) if new.kind in MATRICES else None))
        return pairs

    def _misfit(self, new: TensorSpec, was: TensorSpec, why: str) -> BadInput:
        """Return the error for a target tensor `new` that cannot be made from the source tensor `was`."""
        return BadInput(
            f"weights of {self.source.name!r} cannot be made into weights of {self.target.name!r}: {new.name} is "
            f"{new.shape}, {was.name} is {was.shape}",
            why,
            "Name an architecture that differs in widths and depths only.",
        )

    def _copy(self, new: TensorSpec, was: TensorSpec, out_widths: _Widths, in_widths: _Widths | None) -> None:
        """Take a tensor of the target from a tensor of the source, with selected or duplicated units."""
        index = self.flat_index[was.name]
        factor = torch.ones(new.shape)
        if new.shape:
            index = index[self._source_units(out_widths)]
        if in_widths is not None:
            inputs = self._source_inputs(new, was, in_widths)
            index = index[:, inputs]
            factor *= self._shares(inputs, new.shape[0]).view(*new.shape[:2], *[1] * (len(new.shape) - 2))
        self.index[new.name], self.factor[new.name] = index, factor
        self.constant[new.name] = torch.zeros(new.shape)

    def _shares(self, inputs: Tensor, outputs: int) -> Tensor:
        """Return factors (outputs, inputs) that sum to 1 over the duplicates of each input, for every output."""
        count = inputs.bincount()
        shares = (1 / count[inputs]).expand(outputs, -1)
        if self.spread and len(inputs) > len(count):
            noise = self.spread * shares * torch.randn(shares.shape, generator=self.generator)
            mean = torch.zeros(outputs, len(count)).index_add(1, inputs, noise) / count.clamp_min(1)
            shares = shares + noise - mean[:, inputs]
        return shares

    def _source_inputs(self, new: TensorSpec, was: TensorSpec, widths: _Widths) -> Tensor:
        """Return the source's input for each input of a matrix of the target."""
        units = self._flattened(new, was, widths)
        if units is None:
            return self._source_units(widths)
        pixels = widths[0] // units[0]  # behind a flattened image each unit has one input for each pixel
        return (self._source_units(units)[:, None] * pixels + torch.arange(pixels)).flatten()

    def _flattened(self, new: TensorSpec, was: TensorSpec, widths: _Widths) -> _Widths | None:
        """Return the numbers of units if the inputs of a linear layer are several pixels of each unit, else None."""
        before, after = self._width_before(self.source, was), self._width_before(self.target, new)
        if new.kind != "linear" or not before or not after or widths[0] % before or widths[0] == before:
            return None
        return (before, after) if after * (widths[0] // before) == widths[1] else None

    @staticmethod
    def _width_before(spec: ArchSpec, tensor: TensorSpec) -> int:
        """Return the number of outputs of the matrix before this one; 0 for the first matrix."""
        matrices = [t for t in spec.tensors if t.kind in MATRICES]
        index = next(i for i, t in enumerate(matrices) if t.name == tensor.name)
        return matrices[index - 1].shape[0] if index else 0

    def _source_units(self, widths: _Widths) -> Tensor:
        """Return the source's unit for each unit of the target, in ascending order."""
        source, target = widths
        if target < source and widths in self.importance:
            return self.importance[widths].topk(target).indices.sort().values
        return torch.arange(target) * source // target

    def _importance(self) -> dict[_Widths, Tensor]:
        """Return the importance (units,) of the source's units, by widths of their axes.

        It is the norm of a unit's incoming weights times the norm of its outgoing weights, each summed over all axes
        with the same widths.
        """
        assert self.state is not None
        incoming: dict[_Widths, Tensor] = {}
        outgoing: dict[_Widths, Tensor] = {}
        for new, was, out_widths, in_widths in self.tensor_pairs:
            if in_widths is None:
                continue
            weight = self.state[was.name]
            rows = weight.flatten(1).norm(dim=1)
            incoming[out_widths] = incoming.get(out_widths, torch.zeros(out_widths[0])) + rows
            key = self._flattened(new, was, in_widths) or in_widths
            columns = weight.transpose(0, 1).reshape(key[0], -1).norm(dim=1)
            outgoing[key] = outgoing.get(key, torch.zeros(key[0])) + columns
        return {key: norms * outgoing.get(key, torch.ones(())) for key, norms in incoming.items()}

    def _insert(
        self,
        block: Block,
        roles: dict[str, TensorSpec],
        in_widths: _Widths,
        out_widths: _Widths,
        *,
        zero_branch: bool,
    ) -> None:
        """Set tensors without a counterpart in the source to the identity, where the widths allow it.

        Args:
            zero_branch: the block is residual. Its main branch keeps the initial weights of its matrices, but its last
                norm weight, or its last matrix if it has no norm, is zero.
        """
        branch = block.branch
        for role, tensor in roles.items():
            in_branch = zero_branch and role in branch
            if tensor.kind in _IDENTITY:
                self.constant[tensor.name] = torch.full(tensor.shape, _IDENTITY[tensor.kind])
            elif tensor.kind in MATRICES and not in_branch and in_widths[0] == out_widths[0]:
                self.constant[tensor.name] = self._identity(tensor, in_widths, out_widths)
        if zero_branch:
            last = [t for t in branch.values() if t.kind == "norm_weight"] or block.matrices
            self.constant[last[-1].name] = torch.zeros(last[-1].shape)

    def _identity(self, tensor: TensorSpec, in_widths: _Widths, out_widths: _Widths) -> Tensor:
        """Return a matrix in which each output is the mean of the inputs made from the same unit of the source."""
        if tensor.shape[:2] != (out_widths[1], in_widths[1]):
            return self.constant[tensor.name]
        same = (self._source_units(out_widths)[:, None] == self._source_units(in_widths)).float()
        same /= same.sum(1, keepdim=True).clamp_min(1)
        weight = torch.zeros(tensor.shape)
        middle: tuple[Any, ...] = tuple(size // 2 for size in tensor.shape[2:])
        weight[(..., *middle)] = same
        return weight

    def _changes(self) -> Changes:
        """Return the prefixes of the blocks that differ from the source's."""
        narrower, wider = [], []
        for block, old in self.pairs:
            if old and block.matrices and old.matrices:
                widths = [(a.shape[0], b.shape[0]) for a, b in zip(old.matrices, block.matrices, strict=False)]
                narrower += [block.prefix] * any(target < source for source, target in widths)
                wider += [block.prefix] * any(target > source for source, target in widths)
        inserted = [block.prefix for block, old in self.pairs if old is None or set(block.roles) - set(old.roles)]
        return Changes(narrower, wider, inserted, self.dropped)
