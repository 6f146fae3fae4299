"""Fast evaluation of networks without gradients, for searches that evaluate thousands of candidates.

Batch norm is folded into the layer before it. Batches are so small that their largest activation stays in a core's
cache. Convolutional networks whose activations are too large for batches of 1,000 images use channels-last tensors,
which gain nothing on small images such as 8x8 digits. bfloat16 is used on request (see `popgen.networks.precision`). A
network that cannot be traced runs unchanged, and `FastNetwork.text` says so. All these choices depend on the architecture alone and never on measured
times, so that the same weights have the same outputs to the last digit in every process of a machine.

torch.compile is not used. On a ResNet20 and one core it was 3 to 12 % faster than this, after 11 to 27 s of compiling
in each process, for which it needs a C++ compiler; that pays after some 200 s of evaluations at best. Whether it pays
would depend on the budget, and then N evaluations and M more would differ from N + M in their last digits. oneDNN's
fusion of convolutions with ReLU and addition gained nothing.
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

_CACHE = 2 << 20  # largest size of an activation of one batch in bytes
_BATCH = 1000  # most images in one batch


class FastNetwork:
    """The fast version of one architecture on one device, for any weights; `fast_network` makes and caches it.

    Args:
        bfloat16: run under torch's autocast to bfloat16, in batches of twice as many images, as activations take half
            the space.
    """

    def __init__(self, spec: ArchSpec, device: str = "cpu", bfloat16: bool = False) -> None:
        net = skeleton(spec)
        example = spec.config.inputs.example(2)
        self.spec, self.device = spec, torch.device(device)
        self.folded = fold_batch_norm(net, example)
        if self.device.type != "cpu":
            self.folded = replace(self.folded, net=copy.deepcopy(self.folded.net).to(self.device))
        cached_images = _batch_size(net, example)
        cpu_batch = min(_BATCH, 2 * cached_images) if bfloat16 else cached_images
        self.batch = cpu_batch if self.device.type == "cpu" else _BATCH
        has_convolutions = any(isinstance(module, nn.Conv2d) for module in net.modules())
        self.channels_last = cached_images < _BATCH and has_convolutions
        self.bfloat16 = bfloat16

    @property
    def text(self) -> str:
        """Description of the chosen optimisations, for users and records."""
        folded = f"{len(self.folded.folds)} batch norms folded"
        parts = [f"no folding ({self.folded.why_plain})" if self.folded.why_plain else folded]
        parts += ["channels last"] * self.channels_last + [f"batches of {self.batch}"] + ["bfloat16"] * self.bfloat16
        return ", ".join(parts)

    def state(self, flat: Tensor) -> StateDict:
        """Convert the plain network's weights (p,) to a state dict of the folded network."""
        return self.arranged(self.folded.state(self.spec.to_state(flat)))

    def arranged(self, state: StateDict) -> StateDict:
        """Convert the convolution filters of a state dict to the network's memory layout."""
        if not self.channels_last:
            return state
        return {name: self.arrange(tensor) if tensor.dim() == 4 else tensor for name, tensor in state.items()}

    def run(self, net: nn.Module, state: StateDict, args: tuple[Any, ...]) -> Any:
        """Call `net`, the folded network or a part of it, with the weights `state`."""
        with self._precision():
            # Tying is off, because `state` holds tied tensors under all their names.
            return functional_call(net, state, args, tie_weights=False)

    def arrange(self, inputs: Images) -> Images:
        """Convert a batch of images, or a layer's filters, to the network's memory layout."""
        return inputs.contiguous(memory_format=torch.channels_last) if self.channels_last else inputs

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else nullcontext()


def fast_network(spec: ArchSpec, device: torch.device | str = "cpu", bfloat16: bool = False) -> FastNetwork:
    """Return the FastNetwork of an architecture on a device, from a cache if it was made before."""
    return _cached(spec, str(device), bfloat16)


@lru_cache(maxsize=KEPT)
def _cached(spec: ArchSpec, device: str, bfloat16: bool) -> FastNetwork:
    return FastNetwork(spec, device, bfloat16)


def _batch_size(net: nn.Module, example: Images) -> int:
    """Number of images whose largest activation takes 2 MB in float32, but at least 8 and at most 1,000.

    Measured speed of ResNet20 and ResNet56 on one core, relative to plain torch with contiguous tensors in batches of
    100: 1.3 in batches of 8; 1.4 and 1.5 in batches of 16; 1.5 to 1.6 in batches of 25 to 50; 1.4 and 1.5 in batches of
    64; 1.1 and 1.2 in batches of 100.
    """
    sizes = [example[0].numel()]  # values in each activation of one image

    def record_size(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel() // len(example))

    hooks = [module.register_forward_hook(record_size) for module in net.modules()]
    try:
        with torch.no_grad():
            net(example)
    finally:
        for hook in hooks:
            hook.remove()
    return max(8, min(_BATCH, _CACHE // (4 * max(sizes))))
