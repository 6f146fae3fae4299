"""Alignment: the units of a network are permuted to match those of a reference network of the same architecture.

popgen.weights.streams finds which units can be permuted, through residual connections and batch norm.

If images are given, units are matched by their activations: correlations (Li et al., arXiv 1511.07543; used by REPAIR,
arXiv 2211.08403) and a linear assignment for each stream. Otherwise they are matched by weights: coordinate descent over
streams as in git re-basin (Ainsworth et al., arXiv 2209.04836), but with the same importance for all matrices, whatever
their size and scale. The descent is done twice: once from the given order, and once after a first pass along the network
that uses only tensors whose other axis is matched already. The first pass finds any permutation of the reference itself.
The result with the smaller distance is taken.

Alignment does not make one network of two lineages. Midpoints of independent ResNet20 on CIFAR-10 (0.91 to 0.94 accuracy),
matched by images, have 0.55 with re-estimated batch norm; a midpoint of one lineage of ResNet56 has 0.91, and its ends
have 0.94 (examples/bench/alignment.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.func import functional_call

from popgen.archs import ArchSpec
from popgen.errors import PopgenError
from popgen.networks.forward import network_outputs, skeleton
from popgen.types import Images, StateDict
from popgen.weights.blocks import MATRICES
from popgen.weights.streams import Occurrence, Stream, find_streams

_SWEEPS = 100  # sweeps of the descent, at most; a few are usually enough
_TIE = 0.01  # importance of vectors relative to matrices: they decide between units with similar matrices
_TOLERANCE = 1e-4  # relative difference of outputs that float32 sums in another order may have


@dataclass(frozen=True)
class Aligned:
    """A network whose units have the order of a reference's.

    Distances to the reference are root mean squares over tensors: 0 for equal values, 1 for orthogonal tensors. Matching
    by images does not use them.
    """

    weights: Tensor  # (p,)
    moved: float  # share of the units that were moved, 0 to 1
    before: float  # distance before the alignment
    after: float  # distance after it


def align(spec: ArchSpec, weights: Tensor, reference: Tensor, inputs: Images | None = None) -> Aligned:
    """Permute the units of the network `weights` (p,) to match those of `reference` (p,); its function stays the same.

    Args:
        inputs: a few hundred prepared inputs, to match units by their activations; None: by weights.

    Raises:
        BadInput: the architecture has an operation that is not understood, see `find_streams`.
        PopgenError: the permuted network is another function, so the streams of this architecture are wrong.

    >>> from popgen.archs import build
    >>> spec = ArchSpec.from_config("cnn-s")
    >>> net = spec.to_flat(build("cnn-s", seed=0).state_dict())
    >>> other = permuted(spec, net, seed=1)
    >>> bool((other == net).all()), bool((align(spec, other, net).weights == net).all())
    (False, True)
    """
    streams = find_streams(spec)
    matching = _Matching(spec, streams, weights, reference)
    stay = [torch.arange(stream.units) for stream in streams]
    if inputs is not None:
        orders = _by_activations(spec, streams, weights, reference, inputs)
    else:
        orders = min(stay, matching.descend(False), matching.descend(True), key=matching.distance)
    flat = matching.moved(orders)
    _check_same_function(spec, flat, weights)
    units = sum(stream.units for stream in streams)
    moved = sum(int((order != before).sum()) for order, before in zip(orders, stay, strict=True))
    return Aligned(flat, moved / max(units, 1), matching.distance(stay), matching.distance(orders))


def permuted(spec: ArchSpec, weights: Tensor, seed: int) -> Tensor:
    """Return the weights (p,) of the same function with its units in a random order.

    Raises:
        BadInput: see `align`.
    """
    generator = torch.Generator().manual_seed(seed)
    state = dict(spec.to_state(weights))
    for stream in find_streams(spec):
        _move(state, stream, torch.randperm(stream.units, generator=generator))
    return spec.to_flat(state)


class _Matching:
    """A network that is matched with a reference. An order (units,) of a stream has the given unit for each index."""

    def __init__(self, spec: ArchSpec, streams: Sequence[Stream], weights: Tensor, reference: Tensor) -> None:
        self.spec, self.streams, self.weights = spec, streams, weights
        self.reference = spec.to_state(reference)
        mine = spec.to_state(weights)
        # Permutations change no norm, so the distance falls exactly when the weighted inner product rises.
        self.scale = {
            t.name: (1.0 if t.kind in MATRICES else _TIE)
            / (self.reference[t.name].square().sum() + mine[t.name].square().sum()).clamp_min(1e-12)
            for t in spec.tensors
        }
        self.total = sum(1.0 if t.kind in MATRICES else _TIE for t in spec.tensors)

    def moved(self, orders: Sequence[Tensor]) -> Tensor:
        """Return the weights (p,) with their units in these orders."""
        state = dict(self.spec.to_state(self.weights))
        for stream, order in zip(self.streams, orders, strict=True):
            _move(state, stream, order)
        return self.spec.to_flat(state)

    def distance(self, orders: Sequence[Tensor]) -> float:
        """Return the distance to the reference, see Aligned."""
        state = self.spec.to_state(self.moved(orders))
        squares = [scale * (state[name] - self.reference[name]).square().sum() for name, scale in self.scale.items()]
        return float((torch.stack(squares).sum() / self.total).sqrt())

    def descend(self, along: bool) -> list[Tensor]:
        """Return orders that a change in a single stream cannot improve.

        Args:
            along: the first sweep uses only tensors whose other axis is matched already.
        """
        state = dict(self.spec.to_state(self.weights))
        orders = [torch.arange(stream.units) for stream in self.streams]
        unmatched = set(range(len(self.streams))) if along else set()
        for _ in range(_SWEEPS):
            changed = False
            for i, stream in enumerate(self.streams):
                unmatched.discard(i)
                used = self._matched_already(stream, unmatched) or stream.occurrences
                similarity = sum((self._similarity(state, one) for one in used), torch.zeros(()))
                order = _assign(similarity)
                gain = similarity[torch.arange(len(order)), order].sum() - similarity.diagonal().sum()
                if float(gain) > 1e-6:
                    _move(state, stream, order)
                    orders[i], changed = orders[i][order], True
            if not changed:
                break
        return orders

    def _matched_already(self, stream: Stream, unmatched: set[int]) -> list[Occurrence]:
        """Return the occurrences of a stream in tensors whose other axis has no unmatched stream."""
        axes = {(o.tensor, o.axis) for i in unmatched for o in self.streams[i].occurrences}
        return [o for o in stream.occurrences if (o.tensor, 1 - o.axis) not in axes]

    def _similarity(self, state: StateDict, occurrence: Occurrence) -> Tensor:
        """Return the inner products (units, units) of the reference's units with those of the network."""
        mine, wanted = (_values(tensors[occurrence.tensor], occurrence) for tensors in (state, self.reference))
        return (wanted @ mine.T) * self.scale[occurrence.tensor]


def _by_activations(
    spec: ArchSpec, streams: Sequence[Stream], weights: Tensor, reference: Tensor, inputs: Images
) -> list[Tensor]:
    """Return orders that pair units with correlated activations, summed over the layers that write to a stream."""
    kinds = {t.name: t.kind for t in spec.tensors}
    # For each stream, the layers whose outputs are its units. If these have batch norms, only the norms are used.
    writers = []
    for stream in streams:
        layers = {o.tensor.rpartition(".")[0]: o for o in stream.occurrences if o.axis == 0}
        norms = {o.tensor.rpartition(".")[0] for o in stream.occurrences if kinds[o.tensor].startswith("norm")}
        writers.append({name: o for name, o in layers.items() if name in norms or not norms})
    wanted = sorted({name for layers in writers for name in layers})
    mine, others = (_activations(spec, flat, inputs, wanted) for flat in (weights, reference))
    orders = []
    for stream, layers in zip(streams, writers, strict=True):
        similarity = torch.zeros(stream.units, stream.units)
        for name, occurrence in layers.items():
            of_mine, of_other = (values[name][occurrence.positions[:, 0]] for values in (mine, others))
            similarity += of_other @ of_mine.T
        orders.append(_assign(similarity))
    return orders


@torch.no_grad()
def _activations(spec: ArchSpec, flat: Tensor, inputs: Images, layers: list[str]) -> dict[str, Tensor]:
    """Return outputs (units, images * pixels) of some layers, standardised so that inner products are correlations."""
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
    """Return the column that each row is paired with, so that the sum of similarities is largest."""
    return torch.from_numpy(linear_sum_assignment(similarity.numpy(), maximize=True)[1])


def _values(tensor: Tensor, occurrence: Occurrence) -> Tensor:
    """Return the values of each unit in a tensor, (units, values)."""
    rows = tensor.transpose(0, occurrence.axis)[occurrence.positions.flatten()]
    return rows.reshape(len(occurrence.positions), -1)


def _move(state: StateDict, stream: Stream, order: Tensor) -> None:
    """Move unit `order[i]` to the positions of unit i, in all tensors of the stream."""
    for occurrence in stream.occurrences:
        tensor = state[occurrence.tensor]
        index = torch.arange(tensor.shape[occurrence.axis])
        index[occurrence.positions] = occurrence.positions[order]
        state[occurrence.tensor] = tensor.index_select(occurrence.axis, index)


@torch.no_grad()
def _check_same_function(spec: ArchSpec, flat: Tensor, original: Tensor) -> None:
    inputs = spec.config.inputs.example(8)
    was, now = (network_outputs(spec, weights, inputs) for weights in (original, flat))
    error, largest = float((was - now).abs().max()), float(was.abs().max())
    if not error <= _TOLERANCE * max(largest, 1e-6):
        raise PopgenError(
            f"a network of {spec.name!r} is another function after its units were permuted",
            f"outputs of up to {largest:.3g} differ by {error:.3g}: the module depends on the order of its units",
            "Use its networks as they are, and report this architecture.",
        )
