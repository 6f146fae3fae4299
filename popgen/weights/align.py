"""Independently trained networks of one architecture brought into the order of a reference network's units.

Weight matching of git re-basin (Ainsworth et al., arXiv 2209.04836): coordinate descent over streams of units, each step a linear
assignment. Which units may change places is read off the network itself (popgen.weights.streams), residual connections and
batch norm included. Unlike there, every tensor counts alike, whatever its size and scale; and the descent starts twice: from the
units as they stand, which suits networks that share a start, and from a first pass along the network that trusts only what is
matched already, which finds any permutation of the reference itself. The nearer of the two is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.errors import BadInput, PopgenError
from popgen.types import StateDict
from popgen.weights.network import network_outputs
from popgen.weights.streams import Place, Stream, find_streams

_SWEEPS = 100  # at most; a few are enough
_TOLERANCE = 1e-4  # of the outputs, in units of the largest: float32 sums in another order


@dataclass(frozen=True)
class Aligned:
    """A network with its units in the order of a reference's.

    Distances are root mean squares over tensors: 0 the same values, 1 tensors at right angles to each other.
    """

    weights: Tensor  # (p,)
    moved: float  # share of the units that changed place, 0 to 1
    before: float  # distance to the reference
    after: float


def align(spec: ArchSpec, weights: Tensor, reference: Tensor) -> Aligned:
    """The network with `weights` (p,), its units permuted so that they match those of `reference` (p,); the same function.

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
    before = matching.distance(weights)
    found = [matching.descend(along) for along in (False, True)]
    flat, orders = min(found, key=lambda pair: matching.distance(pair[0]))
    if matching.distance(flat) >= before:
        flat, orders = weights, [torch.arange(stream.units) for stream in streams]
    _check_same_function(spec, flat, weights)
    units = sum(stream.units for stream in streams)
    moved = sum(int((order != torch.arange(len(order))).sum()) for order in orders)
    return Aligned(flat, moved / max(units, 1), before, matching.distance(flat))


def permuted(spec: ArchSpec, weights: Tensor, seed: int) -> Tensor:
    """The same function with its units in a random order, shape (p,).

    Raises:
        BadInput: as `align`.
    """
    generator = torch.Generator().manual_seed(seed)
    state = _copy(spec, weights)
    for stream in find_streams(spec):
        _move(state, stream, torch.randperm(stream.units, generator=generator))
    return spec.to_flat(state)


class _Matching:
    """A network on its way to a reference."""

    def __init__(self, spec: ArchSpec, streams: Sequence[Stream], weights: Tensor, reference: Tensor) -> None:
        self.spec, self.streams, self.weights = spec, streams, weights
        self.reference = spec.to_state(reference)
        mine = spec.to_state(weights)
        # Permutations change no norm, so that the distance falls exactly when the weighted inner product rises.
        self.norms = {
            t.name: (self.reference[t.name].square().sum() + mine[t.name].square().sum()).clamp_min(1e-12)
            for t in spec.tensors
        }

    def distance(self, flat: Tensor) -> float:
        state = self.spec.to_state(flat)
        parts = [(state[n] - self.reference[n]).square().sum() / norm for n, norm in self.norms.items()]
        return float(torch.stack(parts).mean().sqrt())

    def descend(self, along: bool) -> tuple[Tensor, list[Tensor]]:
        """The permuted weights (p,), and the order of each stream's units: which of the given ones stands at each place.

        Args:
            along: the first sweep looks only at tensors whose other axis is matched already.
        """
        state = _copy(self.spec, self.weights)
        orders = [torch.arange(stream.units) for stream in self.streams]
        waiting = set(range(len(self.streams))) if along else set()
        for _ in range(_SWEEPS):
            changed = False
            for i, stream in enumerate(self.streams):
                waiting.discard(i)
                places = self._decided(stream, waiting) or stream.places
                likeness = sum((self._likeness(state, place) for place in places), torch.zeros(()))
                order = torch.from_numpy(linear_sum_assignment(likeness.numpy(), maximize=True)[1])
                gain = likeness[torch.arange(len(order)), order].sum() - likeness.diagonal().sum()
                if float(gain) > 1e-6:
                    _move(state, stream, order)
                    orders[i], changed = orders[i][order], True
            if not changed:
                break
        return self.spec.to_flat(state), orders

    def _decided(self, stream: Stream, waiting: set[int]) -> list[Place]:
        """The places of a stream in tensors on whose other axis no unmatched stream stands."""
        undecided = {(p.tensor, p.axis) for i in waiting for p in self.streams[i].places}
        return [p for p in stream.places if (p.tensor, 1 - p.axis) not in undecided]

    def _likeness(self, state: StateDict, place: Place) -> Tensor:
        """Inner products (units, units) of the reference's units with those of the network."""
        mine, wanted = (_units(tensors[place.tensor], place) for tensors in (state, self.reference))
        return (wanted @ mine.T) / self.norms[place.tensor]


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


def _copy(spec: ArchSpec, weights: Tensor) -> StateDict:
    return dict(spec.to_state(weights))


@torch.no_grad()
def _check_same_function(spec: ArchSpec, flat: Tensor, original: Tensor) -> None:
    inputs = torch.randn(8, *spec.config.input_shape, generator=torch.Generator().manual_seed(0))
    was, now = (network_outputs(spec, weights, inputs) for weights in (original, flat))
    error, largest = float((was - now).abs().max()), float(was.abs().max())
    if not error <= _TOLERANCE * max(largest, 1e-6):
        raise PopgenError(
            f"a network of {spec.name!r} is another function after its units were permuted",
            f"outputs of up to {largest:.3g} differ by {error:.3g}: the module depends on the order of its units",
            "Use its networks as they are, and report this architecture.",
        )
