"""Alignment: permute the units of an independently trained network so that they match those of a reference network.

The permutations that keep the function are found by tracing the network (popgen.weights.streams), residual connections
and batch norm included. Where images are given, units are matched by the correlation of their activations (Li et al.,
arXiv 1511.07543; used by REPAIR, arXiv 2211.08403), with one linear assignment for each stream. Without images they are
matched by their weights: coordinate descent over streams as in git re-basin (Ainsworth et al., arXiv 2209.04836),
except that every matrix has the same influence, whatever its size and scale. The descent runs twice: once from the
given order, and once with a first sweep in the order of the forward pass that uses only tensors whose other axis is
matched already, which recovers any permutation of the reference itself. The result nearer to the reference is taken.

Midpoints of independent CIFAR-10 ResNet20 (.91 to .94 accuracy), matched by images, have .55 with batch norm
re-estimated: alignment does not make one network of two lineages. A midpoint of one lineage of ResNet56 has .91, its
ends .94 (examples/bench/alignment.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from popgen.archs import ArchSpec
from popgen.errors import PopgenError
from popgen.networks.forward import network_outputs, skeleton
from popgen.types import Images, StateDict
from popgen.weights.blocks import MATRICES
from popgen.weights.streams import Stream, StreamAxis, find_streams

_MAX_SWEEPS = 100  # bound of the descent, which needs a few sweeps only
_VECTOR_WEIGHT = 0.01  # weight of a bias or batch-norm tensor, where a matrix has 1: it decides between similar units
_TOLERANCE = 1e-4  # allowed change of the outputs, relative to the largest: float32 sums are taken in another order


@dataclass(frozen=True)
class Aligned:
    """A network with its units in the order of a reference's.

    A distance is a root mean square over tensors, in which biases and batch norm have a small weight: it is 0 for equal
    tensors and 1 for orthogonal ones. It compares weights, even where units are matched by images.
    """

    weights: Tensor  # (p,)
    moved: float  # share of the units that were moved, 0 to 1
    before: float  # distance to the reference before alignment
    after: float  # distance to the reference after alignment


def align(spec: ArchSpec, weights: Tensor, reference: Tensor, inputs: Images | None = None) -> Aligned:
    """Permute the units of the network `weights` (p,) to match those of `reference` (p,); its function stays the same.

    Args:
        inputs: a few hundred prepared inputs, to match units by their activations; None matches them by their weights.

    Raises:
        BadInput: the architecture contains an unsupported operation, see `find_streams`.
        PopgenError: the outputs changed, so that the streams found for the architecture must be wrong.

    >>> from popgen.archs import build
    >>> spec = ArchSpec.from_config("cnn-s")
    >>> net = spec.to_flat(build("cnn-s", seed=0).state_dict())
    >>> other = permuted(spec, net, seed=1)
    >>> bool((other == net).all()), bool((align(spec, other, net).weights == net).all())
    (False, True)
    """
    streams = find_streams(spec)
    matching = _Matching(spec, streams, weights, reference)
    identity = [torch.arange(stream.units) for stream in streams]
    if inputs is not None:
        orders = _by_activations(spec, streams, weights, reference, inputs)
    else:
        orders = min(identity, matching.descend(False), matching.descend(True), key=matching.distance)
    flat = matching.reordered(orders)
    _check_same_function(spec, flat, weights)
    units = sum(stream.units for stream in streams)
    moved = sum(int((order != before).sum()) for order, before in zip(orders, identity, strict=True))
    return Aligned(flat, moved / max(units, 1), matching.distance(identity), matching.distance(orders))


def permuted(spec: ArchSpec, weights: Tensor, seed: int) -> Tensor:
    """Return weights (p,) of the same function with the units of each stream in a random order.

    Raises:
        BadInput: as `align`.
    """
    generator = torch.Generator().manual_seed(seed)
    state = dict(spec.to_state(weights))
    for stream in find_streams(spec):
        _permute(state, stream, torch.randperm(stream.units, generator=generator))
    return spec.to_flat(state)


class _Matching:
    """A network and the reference that it is matched to, with one order (units,) for each stream.

    `order[i]` is the index of the network's unit that is moved to index i.
    """

    def __init__(self, spec: ArchSpec, streams: Sequence[Stream], weights: Tensor, reference: Tensor) -> None:
        self.spec, self.streams, self.weights = spec, streams, weights
        self.reference = spec.to_state(reference)
        mine = spec.to_state(weights)
        # Permutations keep norms, so that the distance falls exactly when the weighted inner product rises.
        self.scale = {
            t.name: (1.0 if t.kind in MATRICES else _VECTOR_WEIGHT)
            / (self.reference[t.name].square().sum() + mine[t.name].square().sum()).clamp_min(1e-12)
            for t in spec.tensors
        }
        self.total = sum(1.0 if t.kind in MATRICES else _VECTOR_WEIGHT for t in spec.tensors)

    def reordered(self, orders: Sequence[Tensor]) -> Tensor:
        """Return the weights (p,) with their units in these orders."""
        state = dict(self.spec.to_state(self.weights))
        for stream, order in zip(self.streams, orders, strict=True):
            _permute(state, stream, order)
        return self.spec.to_flat(state)

    def distance(self, orders: Sequence[Tensor]) -> float:
        """Return the distance to the reference, see `Aligned`, with the units in these orders."""
        state = self.spec.to_state(self.reordered(orders))
        parts = [scale * (state[name] - self.reference[name]).square().sum() for name, scale in self.scale.items()]
        return float((torch.stack(parts).sum() / self.total).sqrt())

    def descend(self, forward: bool) -> list[Tensor]:
        """Return orders that cannot be improved by permuting any one stream alone.

        Args:
            forward: the first sweep compares a stream only in tensors whose other axis is matched already, if any.
        """
        state = dict(self.spec.to_state(self.weights))
        orders = [torch.arange(stream.units) for stream in self.streams]
        unmatched = set(range(len(self.streams))) if forward else set()
        for _ in range(_MAX_SWEEPS):
            changed = False
            for i, stream in enumerate(self.streams):
                unmatched.discard(i)
                axes = self._comparable(stream, unmatched) or stream.axes
                similarity = sum((self._similarity(state, axis) for axis in axes), torch.zeros(()))
                order = _assign(similarity)
                gain = similarity[torch.arange(len(order)), order].sum() - similarity.diagonal().sum()
                if float(gain) > 1e-6:
                    _permute(state, stream, order)
                    orders[i], changed = orders[i][order], True
            if not changed:
                break
        return orders

    def _comparable(self, stream: Stream, unmatched: set[int]) -> list[StreamAxis]:
        """Return the axes of a stream in tensors whose other axis belongs to no unmatched stream."""
        undecided = {(axis.tensor, axis.dim) for i in unmatched for axis in self.streams[i].axes}
        return [axis for axis in stream.axes if (axis.tensor, 1 - axis.dim) not in undecided]

    def _similarity(self, state: StateDict, axis: StreamAxis) -> Tensor:
        """Return the scaled inner products (units, units) of the reference's units with those of the network."""
        mine, wanted = (_unit_rows(tensors[axis.tensor], axis) for tensors in (state, self.reference))
        return (wanted @ mine.T) * self.scale[axis.tensor]


def _by_activations(
    spec: ArchSpec, streams: Sequence[Stream], weights: Tensor, reference: Tensor, inputs: Images
) -> list[Tensor]:
    """Return orders that pair the units with the largest correlations, summed over the layers that compute a stream."""
    kinds = {t.name: t.kind for t in spec.tensors}
    sources: list[dict[str, StreamAxis]] = []  # the layers that compute each stream: its batch norms, if it has any
    for stream in streams:
        layers = {axis.tensor.rpartition(".")[0]: axis for axis in stream.axes if axis.dim == 0}
        norms = {axis.tensor.rpartition(".")[0] for axis in stream.axes if kinds[axis.tensor].startswith("norm")}
        sources.append({name: axis for name, axis in layers.items() if name in norms or not norms})
    names = sorted({name for layers in sources for name in layers})
    mine, wanted = (_activations(spec, flat, inputs, names) for flat in (weights, reference))
    orders = []
    for stream, layers in zip(streams, sources, strict=True):
        similarity = torch.zeros(stream.units, stream.units)
        for name, axis in layers.items():
            of_network, of_reference = (values[name][axis.indices[:, 0]] for values in (mine, wanted))
            similarity += of_reference @ of_network.T
        orders.append(_assign(similarity))
    return orders


@torch.no_grad()
def _activations(spec: ArchSpec, flat: Tensor, inputs: Images, layers: list[str]) -> dict[str, Tensor]:
    """Return layers' outputs (units, images * pixels), standardised so that inner products are correlations."""
    net, seen = skeleton(spec), dict[str, Tensor]()
    hooks = [
        net.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out))
        for name in layers
    ]
    try:
        functional_call(net, spec.to_state(flat), (inputs,))
    finally:
        for hook in hooks:
            hook.remove()
    found = {}
    for name, out in seen.items():
        rows = out.transpose(0, 1).flatten(1)
        rows = rows - rows.mean(1, keepdim=True)
        found[name] = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return found


def _assign(similarity: Tensor) -> Tensor:
    """Return the column assigned to each row, so that the sum of the assigned entries is largest."""
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - of all that reads weights only this aligns them

    return torch.from_numpy(linear_sum_assignment(similarity.numpy(), maximize=True)[1])


def _unit_rows(tensor: Tensor, axis: StreamAxis) -> Tensor:
    """Return the values of each unit as a row: (units, values)."""
    rows = tensor.transpose(0, axis.dim)[axis.indices.flatten()]
    return rows.reshape(len(axis.indices), -1)


def _permute(state: StateDict, stream: Stream, order: Tensor) -> None:
    """Move unit `order[i]` to index i, along all axes of the stream; replaces tensors in `state`."""
    for axis in stream.axes:
        tensor = state[axis.tensor]
        index = torch.arange(tensor.shape[axis.dim])
        index[axis.indices] = axis.indices[order]
        state[axis.tensor] = tensor.index_select(axis.dim, index)


@torch.no_grad()
def _check_same_function(spec: ArchSpec, flat: Tensor, original: Tensor) -> None:
    """Raise PopgenError if two networks (p,) have different outputs on example inputs."""
    inputs = spec.config.inputs.example(8)
    before, after = (network_outputs(spec, weights, inputs) for weights in (original, flat))
    error, largest = float((before - after).abs().max()), float(before.abs().max())
    if not error <= _TOLERANCE * max(largest, 1e-6):
        raise PopgenError(
            f"permuting the units of a network of {spec.name!r} changed its outputs",
            f"outputs of up to {largest:.3g} differ by {error:.3g}: the module depends on the order of its units",
            "Use its networks as they are, and report this architecture.",
        )
