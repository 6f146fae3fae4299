"""Independently trained networks of one architecture brought into the order of a reference network's units.

Which units may change places is read off the network itself (popgen.weights.streams), residual connections and batch norm included.
They are matched by what they do on images, where some are given: correlation of activations (Li et al., arXiv 1511.07543; used by
REPAIR, arXiv 2211.08403), one linear assignment a stream. Without images by their weights: coordinate descent over
streams as in git re-basin (Ainsworth et al., arXiv 2209.04836), but every matrix counts alike, whatever its size and scale, and the
descent starts twice: from the units as they stand, and from a first pass along the network that trusts only what is matched
already, which finds any permutation of the reference itself. The nearer of the two is taken.

Midpoints of independent CIFAR-10 ResNet20 (.91 to .94 accuracy), matched by images, have .55 with batch norm re-estimated: alignment
does not make one network of two lineages. A midpoint of one lineage of ResNet56 has .91, its ends .94 (examples/bench/alignment.py).
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
from popgen.weights.streams import Place, Stream, find_streams
from popgen.weights.units import MATRICES

_SWEEPS = 100  # at most; a few are enough
_TIE = 0.01  # what biases and batch norm count beside matrices: they decide between units whose weights are alike
_TOLERANCE = 1e-4  # of the outputs, in units of the largest: float32 sums in another order


@dataclass(frozen=True)
class Aligned:
    """A network with its units in the order of a reference's.

    Distances are root mean squares over tensors: 0 the same values, 1 tensors at right angles to each other. Matching by
    images does not look at them.
    """

    weights: Tensor  # (p,)
    moved: float  # share of the units that changed place, 0 to 1
    before: float  # distance to the reference
    after: float


def align(spec: ArchSpec, weights: Tensor, reference: Tensor, inputs: Images | None = None) -> Aligned:
    """The network with `weights` (p,), its units permuted so that they match those of `reference` (p,); the same function.

    Args:
        inputs: prepared inputs, a few hundred, to match units by what they do; None: by weights.

    Raises:
        BadInput: the architecture does something that is not understood, see `find_streams`.
        PopgenError: the permuted network is another function, which would be an error in what is known of the architecture.

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
    """The same function with its units in a random order, shape (p,).

    Raises:
        BadInput: as `align`.
    """
    generator = torch.Generator().manual_seed(seed)
    state = dict(spec.to_state(weights))
    for stream in find_streams(spec):
        _move(state, stream, torch.randperm(stream.units, generator=generator))
    return spec.to_flat(state)


class _Matching:
    """A network on its way to a reference. An order says which of the given units stands at each place of a stream."""

    def __init__(self, spec: ArchSpec, streams: Sequence[Stream], weights: Tensor, reference: Tensor) -> None:
        self.spec, self.streams, self.weights = spec, streams, weights
        self.reference = spec.to_state(reference)
        mine = spec.to_state(weights)
        # Permutations change no norm, so that the distance falls exactly when the weighted inner product rises.
        self.scale = {
            t.name: (1.0 if t.kind in MATRICES else _TIE)
            / (self.reference[t.name].square().sum() + mine[t.name].square().sum()).clamp_min(1e-12)
            for t in spec.tensors
        }
        self.total = sum(1.0 if t.kind in MATRICES else _TIE for t in spec.tensors)

    def moved(self, orders: Sequence[Tensor]) -> Tensor:
        """The weights (p,) with their units in these orders."""
        state = dict(self.spec.to_state(self.weights))
        for stream, order in zip(self.streams, orders, strict=True):
            _move(state, stream, order)
        return self.spec.to_flat(state)

    def distance(self, orders: Sequence[Tensor]) -> float:
        state = self.spec.to_state(self.moved(orders))
        parts = [scale * (state[name] - self.reference[name]).square().sum() for name, scale in self.scale.items()]
        return float((torch.stack(parts).sum() / self.total).sqrt())

    def descend(self, along: bool) -> list[Tensor]:
        """Orders that no single stream can better.

        Args:
            along: the first sweep looks only at tensors whose other axis is matched already.
        """
        state = dict(self.spec.to_state(self.weights))
        orders = [torch.arange(stream.units) for stream in self.streams]
        waiting = set(range(len(self.streams))) if along else set()
        for _ in range(_SWEEPS):
            changed = False
            for i, stream in enumerate(self.streams):
                waiting.discard(i)
                places = self._decided(stream, waiting) or stream.places
                likeness = sum((self._likeness(state, place) for place in places), torch.zeros(()))
                order = _assign(likeness)
                gain = likeness[torch.arange(len(order)), order].sum() - likeness.diagonal().sum()
                if float(gain) > 1e-6:
                    _move(state, stream, order)
                    orders[i], changed = orders[i][order], True
            if not changed:
                break
        return orders

    def _decided(self, stream: Stream, waiting: set[int]) -> list[Place]:
        """The places of a stream in tensors on whose other axis no unmatched stream stands."""
        undecided = {(p.tensor, p.axis) for i in waiting for p in self.streams[i].places}
        return [p for p in stream.places if (p.tensor, 1 - p.axis) not in undecided]

    def _likeness(self, state: StateDict, place: Place) -> Tensor:
        """Inner products (units, units) of the reference's units with those of the network."""
        mine, wanted = (_units(tensors[place.tensor], place) for tensors in (state, self.reference))
        return (wanted @ mine.T) * self.scale[place.tensor]


def _by_activations(
    spec: ArchSpec, streams: Sequence[Stream], weights: Tensor, reference: Tensor, inputs: Images
) -> list[Tensor]:
    """Orders that pair units whose activations rise and fall together, summed over the layers that a stream passes."""
    kinds = {t.name: t.kind for t in spec.tensors}
    makers = []  # of each stream: the layers whose outputs it is; where there is batch norm, it comes last
    for stream in streams:
        layers = {p.tensor.rpartition(".")[0]: p for p in stream.places if p.axis == 0}
        norms = {p.tensor.rpartition(".")[0] for p in stream.places if kinds[p.tensor].startswith("norm")}
        makers.append({name: p for name, p in layers.items() if name in norms or not norms})
    wanted = sorted({name for layers in makers for name in layers})
    mine, others = (_activations(spec, flat, inputs, wanted) for flat in (weights, reference))
    orders = []
    for stream, layers in zip(streams, makers, strict=True):
        likeness = torch.zeros(stream.units, stream.units)
        for name, place in layers.items():
            here, there = (values[name][place.positions[:, 0]] for values in (mine, others))
            likeness += there @ here.T
        orders.append(_assign(likeness))
    return orders


@torch.no_grad()
def _activations(spec: ArchSpec, flat: Tensor, inputs: Images, layers: list[str]) -> dict[str, Tensor]:
    """Outputs (units, images and pixels) of some layers, standardised so that their products are correlations."""
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


def _assign(likeness: Tensor) -> Tensor:
    """For each row the column that it is paired with, so that the sum is largest."""
    return torch.from_numpy(linear_sum_assignment(likeness.numpy(), maximize=True)[1])


def _units(tensor: Tensor, place: Place) -> Tensor:
    """What belongs to each unit: (units, values)."""
    rows = tensor.transpose(0, place.axis)[place.positions.flatten()]
    return rows.reshape(len(place.positions), -1)


def _move(state: StateDict, stream: Stream, order: Tensor) -> None:
    """Put unit `order[i]` at the place of unit i, in all tensors of the stream."""
    for place in stream.places:
        tensor = state[place.tensor]
        index = torch.arange(tensor.shape[place.axis])
        index[place.positions] = place.positions[order]
        state[place.tensor] = tensor.index_select(place.axis, index)


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
