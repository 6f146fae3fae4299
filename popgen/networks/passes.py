"""Forward passes of one network after another over the same inputs."""

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

_KEPT = 1 << 30  # bytes of activations before a cut that are worth keeping


class Passes:
    """Outputs and features of networks of one architecture on prepared inputs; no gradients.

    Args:
        inputs: (n, c, h, w), on the device where the networks are run.
        fixed: tensors, by their names, that most of the networks share. Activations up to the first layer with another
            tensor are then computed once and kept, up to 1 GB of them. Other networks are run as a whole.
        bfloat16: run in bfloat16 where torch's autocast does; logits and features are float32 again.
    """

    def __init__(
        self, spec: ArchSpec, inputs: Images, fixed: StateDict | None = None, *, bfloat16: bool = False
    ) -> None:
        self._spec, self._inputs = spec, inputs
        self._network = fast_network(spec, inputs.device, bfloat16)
        self._cut, self._known = _cut(self._network, inputs, fixed) if fixed else (None, {})
        self._kept: dict[tuple[int, int], tuple[Any, ...]] = {}  # activations at the cut, for each batch

    @property
    def text(self) -> str:
        """How the networks are run, for people and records."""
        kept = "" if self._cut is None else f", the layers of {len(self._known)} shared tensors only once"
        return self._network.text + kept

    def outputs(self, flat: Tensor, begin: int = 0, end: int | None = None) -> Tensor:
        """Logits (n, classes) of the network with weights `flat` (p,) on the inputs from `begin` to `end`."""
        logits = list(self._run(flat, begin, end))
        return logits[0] if len(logits) == 1 else torch.cat(logits)

    def features(self, flat: Tensor) -> Tensor:
        """What enters the head (the last linear layer), shape (n, features).

        Raises:
            BadInput: the network does not call it.
        """
        seen: list[Tensor] = []
        nets = [self._network.folded.net] + ([] if self._cut is None else [self._cut.rest])
        heads = {module for net in nets for name, module in net.named_modules() if name == self._spec.head}
        hooks = [head.register_forward_pre_hook(lambda _, args: seen.append(args[0])) for head in heads]
        try:
            for _ in self._run(flat, 0, None):
                pass
        finally:
            for hook in hooks:
                hook.remove()
        if not seen:
            raise BadInput(
                f"{self._spec.name!r} does not call its last linear layer {self._spec.head!r}",
                "so it has no features",
                "",
            )
        return torch.cat([one.flatten(1).float() for one in seen])

    def outputs_of_many(self, weights: Flat) -> Tensor:
        """Logits (networks, n, classes) of the networks `weights` (networks, p): on a GPU in one vectorised pass.

        On a CPU one after another, which is quicker there for convolutions, and the same to the last digit as alone.
        """
        if weights.device.type == "cpu":
            return torch.stack([self.outputs(flat) for flat in weights])
        return self._vectorised(weights)

    def _run(self, flat: Tensor, begin: int, end: int | None) -> Iterator[Tensor]:
        """Logits of one batch after another."""
        with torch.no_grad():
            state = self._network.state(flat)
            shared = self._shares(state)
            state = self._needed(state, shared)
            for first, last in self._batches(begin, end):
                net, args = self._ready(first, last, shared)
                yield self._network.run(net, state, args).float()

    @torch.no_grad()
    def _vectorised(self, weights: Flat) -> Tensor:
        shared = all(self._shares(self._network.state(flat)) for flat in weights)
        logits = []
        for first, last in self._batches(0, None):
            net, args = self._ready(first, last, shared)
            logits.append(torch.vmap(lambda flat, net=net, args=args: self._one(flat, net, args))(weights).float())
        return torch.cat(logits, 1)

    def _one(self, flat: Tensor, net: nn.Module, args: tuple[Any, ...]) -> Tensor:
        state = self._network.folded.state(self._spec.to_state(flat))  # vmap knows no memory layouts
        state = self._needed(state, net is not self._network.folded.net)
        logits: Tensor = self._network.run(net, state, args)
        return logits

    def _batches(self, begin: int, end: int | None) -> Iterator[tuple[int, int]]:
        end = len(self._inputs) if end is None else end
        step = self._network.batch
        return ((first, min(first + step, end)) for first in range(begin, end, step))

    def _shares(self, state: StateDict) -> bool:
        """Whether this network is, up to the cut, the one whose activations are kept."""
        return self._cut is not None and all(torch.equal(state[name], known) for name, known in self._known.items())

    def _needed(self, state: StateDict, shared: bool) -> StateDict:
        """The tensors of what is to be run."""
        if not shared or self._cut is None:
            return state
        return {name: state[name] for name in self._cut.rest_tensors if name in state}

    def _ready(self, first: int, last: int, shared: bool) -> tuple[nn.Module, tuple[Any, ...]]:
        """What is to be run for a batch: the whole network on the images, or the rest of it on kept activations."""
        if not shared or self._cut is None:
            return self._network.folded.net, (self._network.arrange(self._inputs[first:last]),)
        if (first, last) not in self._kept:
            images = (self._network.arrange(self._inputs[first:last]),)
            self._kept[first, last] = self._network.run(self._cut.before, self._known, images)
        return self._cut.rest, self._kept[first, last]


def _varying(network: FastNetwork, fixed: StateDict) -> set[str]:
    """Names of the folded network's tensors that depend on one that is not fixed."""
    plain = {tensor.name for tensor in network.spec.tensors} - set(fixed)
    layers = {name.rpartition(".")[0] for name in plain}
    layers |= {fold.layer for fold in network.folded.folds if fold.norm in layers}
    folded = {fold.layer for fold in network.folded.folds}
    return {
        name
        for name in network.folded.net.state_dict()
        if name in plain or (name.rpartition(".")[0] in layers & folded)
    }


def _cut(network: FastNetwork, inputs: Images, fixed: StateDict) -> tuple[Cut | None, StateDict]:
    """The network cut in front of what varies, and the weights before the cut; None where that does not pay."""
    varying = _varying(network, fixed)
    cut = cut_before(network.folded.net, lambda name: name in varying)
    if cut is None:
        return None, {}
    missing = {tensor.name: torch.zeros(tensor.shape, device=inputs.device) for tensor in network.spec.tensors}
    state = network.arranged(network.folded.state({**missing, **fixed}))
    known = {name: state[name] for name in cut.tensors if name in state}
    with torch.no_grad():
        kept = network.run(cut.before, known, (network.arrange(inputs[:1]),))
    size = sum(one.numel() * one.element_size() for one in kept if isinstance(one, Tensor))
    return (cut, known) if size * len(inputs) <= _KEPT else (None, {})
