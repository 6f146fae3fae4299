"""Transplants: weights of one architecture are made from those of another, of other widths and depths.

* Narrower: some of the units (output channels) of a layer are selected, evenly as in weight selection (Xu et al., arXiv
  2311.18823), or the most important ones.
* Wider: Net2WiderNet (Chen et al., arXiv 1511.05641). Units are duplicated, and the weights that read them are divided by
  the number of duplicates, so that the outputs do not change.
* Deeper: an inserted layer starts as the identity, and an inserted residual block starts with a branch whose output is 0.

All axes of the same two widths use the same selection of units. Residual networks need this, because their blocks add
channels of the same number; and it makes a layer's inputs agree with the outputs of the layer before. If both widths grow
by the same factor, the even selection also agrees with shortcuts that pad with zeros.
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

UnitSelection = Literal["even", "important"]
_Widths = tuple[int, int]  # widths of an axis in the source and in the target


@dataclass(frozen=True)
class Changes:
    """The changes of a transplant, as prefixes of blocks: narrower and wider ones, inserted and dropped ones."""

    narrower: list[str]
    wider: list[str]
    inserted: list[str]
    dropped: list[str]

    def text(self) -> str:
        """Return a line for the user.

        >>> Changes(["0", "3"], [], ["5"], []).text()
        'narrowed 0, 3; inserted 5 as identity'
        """
        changes = [
            f"narrowed {', '.join(self.narrower)}" if self.narrower else "",
            f"widened {', '.join(self.wider)}" if self.wider else "",
            f"inserted {', '.join(self.inserted)} as identity" if self.inserted else "",
            f"dropped {', '.join(self.dropped)}" if self.dropped else "",
        ]
        return "; ".join(change for change in changes if change) or "nothing changed"


@dataclass(frozen=True)
class Transplant:
    """The map target = source[index] * factor + constant; all three have the shape (q,) of a target network."""

    source: ArchSpec
    target: ArchSpec
    index: Tensor
    factor: Tensor
    constant: Tensor
    changes: Changes
    widths: tuple[_Widths, ...]  # output widths, in source and target, of each matrix that both have

    def __call__(self, weights: Flat) -> Flat:
        """Return weights (n, q) of the target from weights (n, p) of the source."""
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
    selection: UnitSelection = "even",
    spread: float = 0.0,
    seed: int = 0,
) -> Transplant:
    """Plan how weights of `source` become weights of `target`.

    Args:
        flat: typical weights (p,) of the source, by which `important` measures its units.
        selection: how the units of a narrower layer are selected.
        spread: spread of the random shares with which duplicates of a unit are read; 0 gives equal shares. The outputs
            do not depend on it. But equal duplicates would remain equal in training, and gain nothing over one unit.
        seed: seed of these shares, and of the branches of inserted residual blocks.

    Raises:
        BadInput: kernels, classes or inputs differ, or `important` is given no `flat`.

    >>> source, target = (ArchSpec.from_config(f"mlp-s/hidden:{n}") for n in (64, 96))
    >>> plan = plan_transplant(source, target)
    >>> plan(torch.ones(2, source.size)).shape == (2, target.size), plan.changes.text()
    (True, 'widened 1')
    """
    if flat is None and selection == "important":
        raise BadInput(
            f"the selection {selection!r} needs weights of {source.name!r}", "it measures them", "Pass flat, or even."
        )
    return _Planner(source, target, flat, selection, spread, seed).plan()


class _Planner:
    """Visits the target's blocks in order, with the widths of the activations that enter them."""

    def __init__(
        self,
        source: ArchSpec,
        target: ArchSpec,
        flat: Tensor | None,
        selection: UnitSelection,
        spread: float,
        seed: int,
    ) -> None:
        self.source, self.target, self.spread = source, target, spread
        self.numbers = source.to_state(torch.arange(source.size))  # index of each value in the flat vector
        self.state = None if flat is None else source.to_state(flat)
        fresh = build(target.config, seed=seed).state_dict()
        # Index, factor and constant of each tensor of the target. Values that the source does not determine keep their
        # random initialisation.
        self.index = {t.name: torch.zeros(t.shape, dtype=torch.long) for t in target.tensors}
        self.factor = {t.name: torch.zeros(t.shape) for t in target.tensors}
        self.constant = {t.name: fresh[t.name].detach().clone().float() for t in target.tensors}
        self.generator = torch.Generator().manual_seed(seed)
        matched, dropped = match_blocks(blocks_of(source), blocks_of(target))
        self.pairs = list(zip(blocks_of(target), matched, strict=True))
        self.dropped = [block.prefix for block in dropped]
        self.axes = [axes for block, old in self.pairs if old for axes in self._axes_of(block, old)]
        self.importance = self._importance() if selection == "important" else {}

    def plan(self) -> Transplant:
        leaving: _Widths = (self.target.config.inputs.example().shape[1],) * 2
        for block, old in self.pairs:
            entering = leaving
            if block.matrices:
                last = block.matrices[-1].shape[0]
                leaving = (old.matrices[-1].shape[0] if old and old.matrices else leaving[0], last)
            if old is None:
                self._insert(block, block.roles, entering, leaving, silent=block.is_residual)
                continue
            new = {role: t for role, t in block.roles.items() if role not in old.roles}
            self._insert(block, new, entering, leaving, silent=False)
        for tensor, was, out_widths, in_widths in self.axes:
            self._copy(tensor, was, out_widths, in_widths)
        index, factor, constant = (
            torch.cat([table[t.name].reshape(-1) for t in self.target.tensors])
            for table in (self.index, self.factor, self.constant)
        )
        widths = tuple(out_widths for _, _, out_widths, in_widths in self.axes if in_widths is not None)
        return Transplant(self.source, self.target, index, factor, constant, self._changes(), widths)

    def _axes_of(self, block: Block, old: Block) -> list[tuple[TensorSpec, TensorSpec, _Widths, _Widths | None]]:
        """Return pairs of tensors with the widths of their outputs and, for matrices, of their inputs."""
        found: list[tuple[TensorSpec, TensorSpec, _Widths, _Widths | None]] = []
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
                found.append((new, was, (1, 1), None))
                continue
            out_widths = (was.shape[0], new.shape[0])
            found.append((new, was, out_widths, (was.shape[1], new.shape[1]) if new.kind in MATRICES else None))
        return found

    def _misfit(self, new: TensorSpec, was: TensorSpec, why: str) -> BadInput:
        return BadInput(
            f"weights of {self.source.name!r} cannot be made into weights of {self.target.name!r}: {new.name} is "
            f"{new.shape}, {was.name} is {was.shape}",
            why,
            "Name an architecture that differs in widths and depths only.",
        )

    def _copy(self, new: TensorSpec, old: TensorSpec, out_widths: _Widths, in_widths: _Widths | None) -> None:
        index = self.numbers[old.name]
        factor = torch.ones(new.shape)
        if new.shape:
            index = index[self._units(out_widths)]
        if in_widths is not None:
            inputs = self._inputs(new, old, in_widths)
            index = index[:, inputs]
            factor *= self._shares(inputs, new.shape[0]).view(*new.shape[:2], *[1] * (len(new.shape) - 2))
        self.index[new.name], self.factor[new.name] = index, factor
        self.constant[new.name] = torch.zeros(new.shape)

    def _shares(self, inputs: Tensor, outputs: int) -> Tensor:
        """Return factors (outputs, inputs); those of the duplicates of an input add up to 1 for every output."""
        count = inputs.bincount()
        shares = (1 / count[inputs]).expand(outputs, -1)
        if self.spread and len(inputs) > len(count):
            moved = self.spread * shares * torch.randn(shares.shape, generator=self.generator)
            mean = torch.zeros(outputs, len(count)).index_add(1, inputs, moved) / count.clamp_min(1)
            shares = shares + moved - mean[:, inputs]
        return shares

    def _inputs(self, new: TensorSpec, old: TensorSpec, widths: _Widths) -> Tensor:
        """Return the source's input for each of the target's. After flattening, a unit has an input for each pixel."""
        before = self._flattened(new, old, widths)
        if before is None:
            return self._units(widths)
        pixels = widths[0] // before[0]
        return (self._units(before)[:, None] * pixels + torch.arange(pixels)).flatten()

    def _flattened(self, new: TensorSpec, old: TensorSpec, widths: _Widths) -> _Widths | None:
        """Return the numbers of units before a linear layer that reads several pixels of each; otherwise None."""
        was, now = self._width_before(self.source, old), self._width_before(self.target, new)
        if new.kind != "linear" or not was or not now or widths[0] % was or widths[0] == was:
            return None
        return (was, now) if now * (widths[0] // was) == widths[1] else None

    @staticmethod
    def _width_before(spec: ArchSpec, tensor: TensorSpec) -> int:
        """Return the number of outputs of the matrix before a matrix; 0 for the first."""
        matrices = [t for t in spec.tensors if t.kind in MATRICES]
        index = next(i for i, t in enumerate(matrices) if t.name == tensor.name)
        return matrices[index - 1].shape[0] if index else 0

    def _units(self, widths: _Widths) -> Tensor:
        """Return the source's unit for each unit of the target's axis, in ascending order."""
        was, now = widths
        if now < was and widths in self.importance:
            return self.importance[widths].topk(now).indices.sort().values
        return torch.arange(now) * was // now

    def _importance(self) -> dict[_Widths, Tensor]:
        """Return the importance of the source's units, for each two widths of axes.

        It is the norm of the weights that make a unit times the norm of those that read it, each summed over all axes of
        the same two widths.
        """
        assert self.state is not None
        making: dict[_Widths, Tensor] = {}
        reading: dict[_Widths, Tensor] = {}
        for new, old, out_widths, in_widths in self.axes:
            if in_widths is None:
                continue
            weight = self.state[old.name]
            making[out_widths] = making.get(out_widths, torch.zeros(out_widths[0])) + weight.flatten(1).norm(dim=1)
            key = self._flattened(new, old, in_widths) or in_widths
            columns = weight.transpose(0, 1).reshape(key[0], -1).norm(dim=1)
            reading[key] = reading.get(key, torch.zeros(key[0])) + columns
        return {key: value * reading.get(key, torch.ones(())) for key, value in making.items()}

    def _insert(
        self, block: Block, roles: dict[str, TensorSpec], entering: _Widths, leaving: _Widths, *, silent: bool
    ) -> None:
        """Set new tensors to the identity where it exists. A silent branch has random weights, and a last factor of 0."""
        branch = block.branch
        for role, tensor in roles.items():
            in_branch = silent and role in branch
            plain = {"norm_weight": 1.0, "norm_bias": 0.0, "norm_mean": 0.0, "norm_var": 1.0, "bias": 0.0}
            if tensor.kind in plain:
                self.constant[tensor.name] = torch.full(tensor.shape, plain[tensor.kind])
            elif tensor.kind in MATRICES and not in_branch and entering[0] == leaving[0]:
                self.constant[tensor.name] = self._identity(tensor, entering, leaving)
        if silent:
            last = [t for t in branch.values() if t.kind == "norm_weight"] or block.matrices
            self.constant[last[-1].name] = torch.zeros(last[-1].shape)

    def _identity(self, tensor: TensorSpec, entering: _Widths, leaving: _Widths) -> Tensor:
        """Return the matrix that maps each unit of the source to itself, over entering and leaving units of the target."""
        if tensor.shape[:2] != (leaving[1], entering[1]):
            return self.constant[tensor.name]
        same = (self._units(leaving)[:, None] == self._units(entering)).float()
        same /= same.sum(1, keepdim=True).clamp_min(1)
        weight = torch.zeros(tensor.shape)
        middle: tuple[Any, ...] = tuple(size // 2 for size in tensor.shape[2:])
        weight[(..., *middle)] = same
        return weight

    def _changes(self) -> Changes:
        narrower, wider = [], []
        for block, old in self.pairs:
            if old and block.matrices and old.matrices:
                widths = [(a.shape[0], b.shape[0]) for a, b in zip(old.matrices, block.matrices, strict=False)]
                narrower += [block.prefix] * any(now < was for was, now in widths)
                wider += [block.prefix] * any(now > was for was, now in widths)
        inserted = [block.prefix for block, old in self.pairs if old is None or set(block.roles) - set(old.roles)]
        return Changes(narrower, wider, inserted, self.dropped)
