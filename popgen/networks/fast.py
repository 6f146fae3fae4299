"""Networks evaluated quickly, without gradients, as a search does it thousands of times.

Batch norm is folded into the layers before it, images go through in batches whose largest activation stays in a core's cache,
and convolutions of images that need several such batches get channels-last tensors (on smaller ones, such as 8x8 digits, those
gain nothing). On a GPU bfloat16 where asked for. A network that cannot be traced is run as it
is, and `FastNetwork.text` says so. All of it is decided by the architecture alone, never by a clock: the same weights have
the same outputs to the last digit in every process of a machine.

torch.compile is not used. On a ResNet20 and one core it was 3 to 12 % faster than this after 11 to 27 s of compiling in each
process (needing a C++ compiler there), which pays after some 200 s of evaluations at best; and whether it pays would depend
on the budget, so that N evaluations and M more would differ from N + M in their last digits. oneDNN's convolutions with ReLU
and addition fused gained nothing.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from popgen.archs import ArchSpec
from popgen.networks.folding import fold_batch_norm
from popgen.networks.skeleton import KEPT, skeleton
from popgen.types import Images, StateDict

_CACHE = 2 << 20  # bytes of the largest activation of a batch
_BATCH = 1000  # images a batch, where activations are small


class FastNetwork:
    """One architecture on one device, ready to be run with any weights; made once for each by `fast_network`."""

    def __init__(self, spec: ArchSpec, device: str = "cpu", bfloat16: bool = False) -> None:
        net = skeleton(spec)
        example = spec.config.inputs.example(2)
        self.spec, self.device = spec, torch.device(device)
        self.folded = fold_batch_norm(net, example)
        if self.device.type != "cpu":
            self.folded = replace(self.folded, net=copy.deepcopy(self.folded.net).to(self.device))
        fits = _batch(net, example)
        self.batch = fits if self.device.type == "cpu" else _BATCH
        self.channels_last = fits < _BATCH and any(isinstance(module, nn.Conv2d) for module in net.modules())
        self.bfloat16 = bfloat16

    @property
    def text(self) -> str:
        """What was chosen, for people and records."""
        folded = f"{len(self.folded.folds)} batch norms folded"
        parts = [f"no folding ({self.folded.why_plain})" if self.folded.why_plain else folded]
        parts += ["channels last"] * self.channels_last + [f"batches of {self.batch}"] + ["bfloat16"] * self.bfloat16
        return ", ".join(parts)

    def state(self, flat: Tensor) -> StateDict:
        """Weights of the folded network from those of the plain one (p,)."""
        return self.arranged(self.folded.state(self.spec.to_state(flat)))

    def arranged(self, state: StateDict) -> StateDict:
        """Its filters in the memory layout that the network is quickest with."""
        if not self.channels_last:
            return state
        return {name: self.arrange(tensor) if tensor.dim() == 4 else tensor for name, tensor in state.items()}

    def run(self, net: nn.Module, state: StateDict, args: tuple[Any, ...]) -> Any:
        """`net`, which is the folded network or a part of it, with this state."""
        with self._precision():
            return functional_call(net, state, args, tie_weights=False)  # `state` has every name of a tied tensor

    def arrange(self, inputs: Images) -> Images:
        """A batch, or a layer's filters, in the memory layout that the network is quickest with."""
        return inputs.contiguous(memory_format=torch.channels_last) if self.channels_last else inputs

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else nullcontext()


def fast_network(spec: ArchSpec, device: torch.device | str = "cpu", bfloat16: bool = False) -> FastNetwork:
    """The FastNetwork of an architecture; the second call for the same is free."""
    return _made(spec, str(device), bfloat16)


@lru_cache(maxsize=KEPT)
def _made(spec: ArchSpec, device: str, bfloat16: bool) -> FastNetwork:
    return FastNetwork(spec, device, bfloat16)


def _batch(net: nn.Module, example: Images) -> int:
    """How many images go through together: their largest activation takes 2 MB, within 8 to 1,000 images.

    ResNet20 and ResNet56 on one core, times as fast as plain torch with contiguous tensors in batches of 100: batches of 8
    1.3, of 16 1.4 and 1.5, of 25 to 50 1.5 to 1.6, of 64 1.4 and 1.5, of 100 1.1 and 1.2.
    """
    sizes = [example[0].numel()]

    def see(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel() // len(example))

    hooks = [module.register_forward_hook(see) for module in net.modules()]
    try:
        with torch.no_grad():
            net(example)
    finally:
        for hook in hooks:
            hook.remove()
    return max(8, min(_BATCH, _CACHE // (4 * max(sizes))))
