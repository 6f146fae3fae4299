"""Weights of one architecture made into weights of another: units sliced or duplicated, layers dropped or inserted.

Narrower: a choice of the units (evenly, as in weight selection, Xu et al., arXiv 2311.18823; or the most important).
Wider: Net2WiderNet (Chen et al., arXiv 1511.05641): units are duplicated and what leaves them is divided by their number,
so that the outputs stay. Deeper: an inserted layer starts as the identity, an inserted residual block with a silent branch.

All axes that go from one width to another share one choice of units: that is what the streams of residual nets need, and
it makes a layer's inputs follow the outputs of the layer before. Where both widths grow by one factor, the even choice
also agrees with shortcuts that pad with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from popgen.archs import ArchSpec, TensorSpec, build
from popgen.errors import BadInput
from popgen.types import Flat
from popgen.weights.units import MATRICES, Unit, match_units, units_of

Choice = Literal["even", "important"]
_Widths = tuple[int, int]  # of an axis: the source's and the target's


@dataclass(frozen=True)
class Changes:
    """What a transplant does: matrices that lose or gain units, units of depth that are inserted or dropped."""

    narrower: list[str]
    wider: list[str]
    inserted: list[str]
    dropped: list[str]

    def text(self) -> str:
        """In words.

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
    """target = source[index] * factor + constant, each of shape (q,), for target networks of q values."""

    source: ArchSpec
    target: ArchSpec
    index: Tensor
    factor: Tensor
    constant: Tensor
    changes: Changes
    widths: tuple[_Widths, ...]  # of the outputs of each matrix that has one in the source: the source's, the target's

    def __call__(self, weights: Flat) -> Flat:
        """Weights (n, q) of the target from weights (n, p) of the source."""
        return weights[:, self.index] * self.factor + self.constant

    def to(self, device: str) -> Transplant:
        """The same on another device."""
        return replace(
            self, index=self.index.to(device), factor=self.factor.to(device), constant=self.constant.to(device)
        )


def plan_transplant(
    source: ArchSpec,
    target: ArchSpec,
    flat: Tensor | None = None,
    *,
    choice: Choice = "even",
    spread: float = 0.0,
    seed: int = 0,
) -> Transplant:
    """How weights of `source` become weights of `target`.

    Args:
        flat: weights (p,) of the source that are typical; for `important`, which measures them.
        choice: of the units of a narrower layer.
        spread: how unequally, at random, the duplicates of a unit share what leaves it. The outputs stay, but in training
            equal duplicates would stay equal, and the network as narrow as it was.
        seed: of these shares, and of the silent branches of inserted residual blocks.

    Raises:
        BadInput: kernels, classes or inputs differ; `important` without `flat`.

    >>> source, target = (ArchSpec.from_config(f"mlp-s/hidden:{n}") for n in (64, 96))
    >>> plan = plan_transplant(source, target)
    >>> plan(torch.ones(2, source.size)).shape == (2, target.size), plan.changes.text()
    (True, 'widened 1')
    """
    if flat is None and choice == "important":
        raise BadInput(
            f"the choice {choice!r} needs weights of {source.name!r}", "it measures them", "Pass flat, or choose even."
        )
    return _Planner(source, target, flat, choice, spread, seed).plan()


class _Planner:
    """Walks along the target's units with the widths of the stream that reaches them."""

    def __init__(
        self, source: ArchSpec, target: ArchSpec, flat: Tensor | None, choice: Choice, spread: float, seed: int
    ) -> None:
        self.source, self.target, self.spread = source, target, spread
        self.numbers = source.to_state(torch.arange(source.size))  # each value's place in the flat vector
        self.state = None if flat is None else source.to_state(flat)
        fresh = build(target.config, seed=seed).state_dict()
        # tensors of the target -> index, factor and constant; what no source reaches stays as it is freshly initialised
        self.index = {t.name: torch.zeros(t.shape, dtype=torch.long) for t in target.tensors}
        self.factor = {t.name: torch.zeros(t.shape) for t in target.tensors}
        self.constant = {t.name: fresh[t.name].detach().clone().float() for t in target.tensors}
        self.generator = torch.Generator().manual_seed(seed)
        matched, dropped = match_units(units_of(source), units_of(target))
        self.pairs = list(zip(units_of(target), matched, strict=True))
        self.dropped = [unit.prefix for unit in dropped]
        self.axes = [axes for unit, old in self.pairs if old for axes in self._axes_of(unit, old)]
        self.importance = self._importance() if choice == "important" else {}

    def plan(self) -> Transplant:
        stream: _Widths = (self.target.config.inputs.example().shape[1],) * 2
        for unit, old in self.pairs:
            reached = stream
            if unit.matrices:
                last = unit.matrices[-1].shape[0]
                stream = (old.matrices[-1].shape[0] if old and old.matrices else stream[0], last)
            if old is None:
                self._insert(unit, unit.roles, reached, stream, silent=unit.is_residual)
                continue
            new = {role: t for role, t in unit.roles.items() if role not in old.roles}
            self._insert(unit, new, reached, stream, silent=False)
        for tensor, was, out_widths, in_widths in self.axes:
            self._copy(tensor, was, out_widths, in_widths)
        index, factor, constant = (
            torch.cat([table[t.name].reshape(-1) for t in self.target.tensors])
            for table in (self.index, self.factor, self.constant)
        )
        widths = tuple(out_widths for _, _, out_widths, in_widths in self.axes if in_widths is not None)
        return Transplant(self.source, self.target, index, factor, constant, self._changes(), widths)

    def _axes_of(self, unit: Unit, old: Unit) -> list[tuple[TensorSpec, TensorSpec, _Widths, _Widths | None]]:
        """Tensor pairs with the widths of their outputs and, for matrices, of their inputs."""
        found: list[tuple[TensorSpec, TensorSpec, _Widths, _Widths | None]] = []
        for role, new in unit.roles.items():
            if role not in old.roles:
                continue
            was = old.roles[role]
            if new.kind != was.kind or new.shape[2:] != was.shape[2:] or len(new.shape) != len(was.shape):
                raise self._misfit(new, was, "their kinds or kernels differ")
            if new.shape != was.shape and (
                new.kind in ("other", "embedding") or unit.group[2] and new.shape[0] != was.shape[0]
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
        """Factors (outputs, inputs): those of the duplicates of one input have the sum 1, for every output."""
        count = inputs.bincount()
        shares = (1 / count[inputs]).expand(outputs, -1)
        if self.spread and len(inputs) > len(count):
            moved = self.spread * shares * torch.randn(shares.shape, generator=self.generator)
            mean = torch.zeros(outputs, len(count)).index_add(1, inputs, moved) / count.clamp_min(1)
            shares = shares + moved - mean[:, inputs]
        return shares

    def _inputs(self, new: TensorSpec, old: TensorSpec, widths: _Widths) -> Tensor:
        """For each input of a matrix the source's. Behind a flattened image each unit has one input a pixel."""
        before = self._flattened(new, old, widths)
        if before is None:
            return self._units(widths)
        pixels = widths[0] // before[0]
        return (self._units(before)[:, None] * pixels + torch.arange(pixels)).flatten()

    def _flattened(self, new: TensorSpec, old: TensorSpec, widths: _Widths) -> _Widths | None:
        """The numbers of units, where a linear layer sees several pixels of each."""
        was, now = self._width_before(self.source, old), self._width_before(self.target, new)
        if new.kind != "linear" or not was or not now or widths[0] % was or widths[0] == was:
            return None
        return (was, now) if now * (widths[0] // was) == widths[1] else None

    @staticmethod
    def _width_before(spec: ArchSpec, tensor: TensorSpec) -> int:
        """Outputs of the matrix before; 0 for the first."""
        matrices = [t for t in spec.tensors if t.kind in MATRICES]
        place = next(i for i, t in enumerate(matrices) if t.name == tensor.name)
        return matrices[place - 1].shape[0] if place else 0

    def _units(self, widths: _Widths) -> Tensor:
        """For each unit of the target's axis the source's unit, in rising order."""
        was, now = widths
        if now < was and widths in self.importance:
            return self.importance[widths].topk(now).indices.sort().values
        return torch.arange(now) * was // now

    def _importance(self) -> dict[_Widths, Tensor]:
        """Norm of what enters a unit times norm of what leaves it, each summed over all axes of the same two widths."""
        assert self.state is not None
        enters: dict[_Widths, Tensor] = {}
        leaves: dict[_Widths, Tensor] = {}
        for new, old, out_widths, in_widths in self.axes:
            if in_widths is None:
                continue
            weight = self.state[old.name]
            enters[out_widths] = enters.get(out_widths, torch.zeros(out_widths[0])) + weight.flatten(1).norm(dim=1)
            key = self._flattened(new, old, in_widths) or in_widths
            columns = weight.transpose(0, 1).reshape(key[0], -1).norm(dim=1)
            leaves[key] = leaves.get(key, torch.zeros(key[0])) + columns
        return {key: value * leaves.get(key, torch.ones(())) for key, value in enters.items()}

    def _insert(
        self, unit: Unit, roles: dict[str, TensorSpec], reached: _Widths, leaving: _Widths, *, silent: bool
    ) -> None:
        """Identity, as far as there is one; the fresh weights stay in a silent branch."""
        branch = unit.branch
        for role, tensor in roles.items():
            in_branch = silent and role in branch
            plain = {"norm_weight": 1.0, "norm_bias": 0.0, "norm_mean": 0.0, "norm_var": 1.0, "bias": 0.0}
            if tensor.kind in plain:
                self.constant[tensor.name] = torch.full(tensor.shape, plain[tensor.kind])
            elif tensor.kind in MATRICES and not in_branch and reached[0] == leaving[0]:
                self.constant[tensor.name] = self._identity(tensor, reached, leaving)
        if silent:
            last = [t for t in branch.values() if t.kind == "norm_weight"] or unit.matrices
            self.constant[last[-1].name] = torch.zeros(last[-1].shape)

    def _identity(self, tensor: TensorSpec, reached: _Widths, leaving: _Widths) -> Tensor:
        """The matrix that passes each of the source's units on, from the units of one width to those of another."""
        if tensor.shape[:2] != (leaving[1], reached[1]):
            return self.constant[tensor.name]
        same = (self._units(leaving)[:, None] == self._units(reached)).float()
        same /= same.sum(1, keepdim=True).clamp_min(1)
        weight = torch.zeros(tensor.shape)
        middle: tuple[Any, ...] = tuple(size // 2 for size in tensor.shape[2:])
        weight[(..., *middle)] = same
        return weight

    def _changes(self) -> Changes:
        narrower, wider = [], []
        for unit, old in self.pairs:
            if old and unit.matrices and old.matrices:
                widths = [(a.shape[0], b.shape[0]) for a, b in zip(old.matrices, unit.matrices, strict=False)]
                narrower += [unit.prefix] * any(now < was for was, now in widths)
                wider += [unit.prefix] * any(now > was for was, now in widths)
        inserted = [unit.prefix for unit, old in self.pairs if old is None or set(unit.roles) - set(old.roles)]
        return Changes(narrower, wider, inserted, self.dropped)
