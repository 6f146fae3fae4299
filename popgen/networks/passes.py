"""Fast forward passes of many networks of one architecture over the same inputs, without gradients.

Where the networks share their first layers, as candidates do in a search over parts, the activations after these layers
are computed once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from popgen.archs import ArchSpec
from popgen.errors import BadInput
from popgen.networks.fast import FastNetwork, fast_network
from popgen.networks.prefix import Cut, cut_before
from popgen.types import Flat, Images, StateDict

_KEPT = 1 << 30  # most bytes of shared activations to keep


class Passes:
    """Outputs and features of networks of one architecture on prepared inputs, without gradients.

    Args:
        inputs: prepared inputs (n, ...), on the device where the networks run.
        fixed: tensors by name that most of the networks share. Activations before the first layer with any other tensor
            are computed once and kept if they take at most 1 GB. Networks with different fixed tensors run as a whole.
        bfloat16: run the operations that torch's autocast selects in bfloat16; logits and features are float32.
    """

    def __init__(
        self, spec: ArchSpec, inputs: Images, fixed: StateDict | None = None, *, bfloat16: bool = False
    ) -> None:
        self._spec, self._inputs = spec, inputs
        self._network = fast_network(spec, inputs.device, bfloat16)
        self._cut, self._shared_state = _cut_network(self._network, inputs, fixed) if fixed else (None, {})
        self._kept: dict[tuple[int, int], tuple[Any, ...]] = {}  # (first, last) of a batch -> activations at the cut

    @property
    def text(self) -> str:
        """Description of how the networks are run, for users and records."""
        kept = "" if self._cut is None else f", the layers of {len(self._shared_state)} shared tensors only once"
        return self._network.text + kept

    @property
    def batch(self) -> int:
        """Number of inputs that are run together."""
        return self._network.batch

    def outputs(self, flat: Tensor, begin: int = 0, end: int | None = None) -> Tensor:
        """Logits (n, ..., classes) of the network with weights `flat` (p,) on the inputs from `begin` to `end`."""
        logits = list(self._run(flat, begin, end))
        return logits[0] if len(logits) == 1 else torch.cat(logits)

    def features(self, flat: Tensor) -> Tensor:
        """Inputs (n, features) of the head, which is the last linear layer.

        Raises:
            BadInput: the network does not call its last linear layer.
        """
        return self.features_and_outputs(flat)[0]

    def features_and_outputs(self, flat: Tensor, begin: int = 0, end: int | None = None) -> tuple[Tensor, Tensor]:
        """Inputs (n, features) of the head and logits (n, ..., classes), of the same pass.

        Raises:
            BadInput: the network does not call its last linear layer.
        """
        seen: list[Tensor] = []
        nets = [self._network.folded.net] + ([] if self._cut is None else [self._cut.rest])
        heads = {module for net in nets for name, module in net.named_modules() if name == self._spec.head}
        hooks = [head.register_forward_pre_hook(lambda _, args: seen.append(args[0])) for head in heads]
        try:
            logits = list(self._run(flat, begin, end))
        finally:
            for hook in hooks:
                hook.remove()
        if not seen:
            raise BadInput(
                f"{self._spec.name!r} does not call its last linear layer {self._spec.head!r}",
                "so it has no features",
                "",
            )
        return torch.cat([one.flatten(1).float() for one in seen]), torch.cat(logits)

    def outputs_of_many(self, weights: Flat) -> Tensor:
        """Logits (networks, n, ..., classes) of the networks `weights` (networks, p).

        On a GPU they run in one vectorised pass. On a CPU they run one after another, which is faster there for
        convolutions and gives the same results to the last digit as running each alone.
        """
        if weights.device.type == "cpu":
            return torch.stack([self.outputs(flat) for flat in weights])
        return self._vectorised(weights)

    def _run(self, flat: Tensor, begin: int, end: int | None) -> Iterator[Tensor]:
        """Yield the logits of the network with weights `flat` (p,), batch by batch."""
        with torch.no_grad():
            state = self._network.state(flat)
            shared = self._has_shared_weights(state)
            state = self._needed(state, shared)
            for first, last in self._batches(begin, end):
                net, args = self._module_and_args(first, last, shared)
                yield self._network.run(net, state, args).float()

    @torch.no_grad()
    def _vectorised(self, weights: Flat) -> Tensor:
        """Logits of all networks at once by torch.vmap."""
        shared = all(self._has_shared_weights(self._network.state(flat)) for flat in weights)
        logits = []
        for first, last in self._batches(0, None):
            net, args = self._module_and_args(first, last, shared)
            logits.append(torch.vmap(lambda flat, net=net, args=args: self._run_one(flat, net, args))(weights).float())
        return torch.cat(logits, 1)

    def _run_one(self, flat: Tensor, net: nn.Module, args: tuple[Any, ...]) -> Tensor:
        """Logits of one network within torch.vmap."""
        state = self._network.folded.state(self._spec.to_state(flat))  # not `arranged`: vmap has no memory layouts
        state = self._needed(state, net is not self._network.folded.net)
        logits: Tensor = self._network.run(net, state, args)
        return logits

    def _batches(self, begin: int, end: int | None) -> Iterator[tuple[int, int]]:
        """The ranges (first, last) of the batches from `begin` to `end`."""
        end = len(self._inputs) if end is None else end
        step = self._network.batch
        return ((first, min(first + step, end)) for first in range(begin, end, step))

    def _has_shared_weights(self, state: StateDict) -> bool:
        """Whether the network has the shared weights before the cut, so that the kept activations are its own."""
        if self._cut is None:
            return False
        return all(torch.equal(state[name], tensor) for name, tensor in self._shared_state.items())

    def _needed(self, state: StateDict, shared: bool) -> StateDict:
        """The part of a state dict that the network, or only its rest after the cut, reads."""
        if not shared or self._cut is None:
            return state
        return {name: state[name] for name in self._cut.rest_tensors if name in state}

    def _module_and_args(self, first: int, last: int, shared: bool) -> tuple[nn.Module, tuple[Any, ...]]:
        """The module to run for a batch and its arguments: the network and inputs, or its rest and kept activations."""
        if not shared or self._cut is None:
            return self._network.folded.net, (self._network.arrange(self._inputs[first:last]),)
        if (first, last) not in self._kept:
            inputs = (self._network.arrange(self._inputs[first:last]),)
            self._kept[first, last] = self._network.run(self._cut.before, self._shared_state, inputs)
        return self._cut.rest, self._kept[first, last]


def _varying(network: FastNetwork, fixed: StateDict) -> set[str]:
    """Names of the folded network's tensors that depend on a tensor outside `fixed`."""
    free = {tensor.name for tensor in network.spec.tensors} - set(fixed)
    layers = {name.rpartition(".")[0] for name in free}
    # A free batch norm makes the layer into which it is folded vary.
    layers |= {fold.layer for fold in network.folded.folds if fold.norm in layers}
    folded = {fold.layer for fold in network.folded.folds}
    return {
        name for name in network.folded.net.state_dict() if name in free or (name.rpartition(".")[0] in layers & folded)
    }


def _cut_network(network: FastNetwork, inputs: Images, fixed: StateDict) -> tuple[Cut | None, StateDict]:
    """Cut the network before the first varying layer, and return the weights before the cut with it.

    The result is (None, {}) if nothing can be shared or the activations would take too much memory.
    """
    varying = _varying(network, fixed)
    cut = cut_before(network.folded.net, lambda name: name in varying)
    if cut is None:
        return None, {}
    zeros = {tensor.name: torch.zeros(tensor.shape, device=inputs.device) for tensor in network.spec.tensors}
    state = network.arranged(network.folded.state({**zeros, **fixed}))
    shared_state = {name: state[name] for name in cut.tensors if name in state}
    with torch.no_grad():
        activations = network.run(cut.before, shared_state, (network.arrange(inputs[:1]),))
    size = sum(one.numel() * one.element_size() for one in activations if isinstance(one, Tensor))
    return (cut, shared_state) if size * len(inputs) <= _KEPT else (None, {})
