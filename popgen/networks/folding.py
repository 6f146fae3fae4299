"""Batch norm folded into the layer before it: the same function of the weights, with fewer passes over memory.

In evaluation mode, batch norm after a convolution or linear layer scales and shifts that layer's outputs, so
W' = W * s and b' = (b - mean) * s + bias with s = weight / sqrt(var + eps)
(Jacob et al., arXiv 1712.05877, section 3.2).
torch.nn.utils.fusion does the same once, for a module's own weights; here each candidate brings its own weights.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from popgen.errors import brief
from popgen.types import Images, StateDict

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# Largest difference of a folded network's outputs from the original's, relative to the largest output, in the check
# with random weights. A wrong fold differs by about the size of the outputs.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Fold:
    """The names of a batch norm and of the layer into which it is folded, and the batch norm's epsilon."""

    layer: str
    norm: str
    eps: float


@dataclass(frozen=True)
class Folded:
    """A network without its folded batch norms, and the conversion of the original's weights.

    If folding failed, `net` is the original network, `folds` is empty, and `why_plain` gives the reason.
    """

    net: nn.Module
    folds: tuple[Fold, ...]
    why_plain: str = ""

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of the tensors in `net`; the original may have more, in modules that it never calls."""
        return frozenset(self.net.state_dict())

    def state(self, state: StateDict) -> StateDict:
        """Convert a state dict of the original to one of `net`; differentiable."""
        folded = dict(state)
        for fold in self.folds:
            scale = torch.rsqrt(folded.pop(f"{fold.norm}.running_var") + fold.eps)
            shift = -folded.pop(f"{fold.norm}.running_mean")
            weight, bias = folded[f"{fold.layer}.weight"], folded.get(f"{fold.layer}.bias")
            if f"{fold.norm}.weight" in folded:
                scale = scale * folded.pop(f"{fold.norm}.weight")
            shift = (shift if bias is None else bias + shift) * scale
            if f"{fold.norm}.bias" in folded:
                shift = shift + folded.pop(f"{fold.norm}.bias")
            folded[f"{fold.layer}.weight"] = weight * scale.view(-1, *[1] * (weight.dim() - 1))
            folded[f"{fold.layer}.bias"] = shift
        surplus = folded.keys() - self.names
        return {name: tensor for name, tensor in folded.items() if name in self.names} if surplus else folded


@torch.no_grad()
def fold_batch_norm(net: nn.Module, inputs: Images) -> Folded:
    """Trace a network in evaluation mode and fold each batch norm whose input comes from a layer alone.

    The result is checked with random weights on `inputs` (n, ...). If the network cannot be traced or the check fails,
    nothing is folded.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()).eval()
    >>> fold_batch_norm(net, torch.rand(2, 1, 5, 5)).folds
    (Fold(layer='0', norm='1', eps=1e-05),)
    """
    try:
        traced = fx.symbolic_trace(net)
    except Exception as error:  # noqa: BLE001 - a user's network may fail in any way when its inputs are symbols
        return Folded(net, (), f"it cannot be traced: {type(error).__name__}")
    folds = _find_folds(traced)
    folded = Folded(_without_norms(traced, folds), folds)
    state = _random_state(net)
    try:
        wanted = functional_call(net, state, (inputs,), tie_weights=False)
        got = functional_call(folded.net, folded.state(state), (inputs,), tie_weights=False)
    except Exception as error:  # noqa: BLE001 - as above; if the original fails, too, its first use raises the error
        return Folded(net, (), f"its trace fails ({brief(error)})")
    if not isinstance(wanted, Tensor) or not isinstance(got, Tensor):
        return Folded(net, (), "its output is not a tensor")
    if not torch.allclose(got, wanted, rtol=0, atol=_TOLERANCE * float(wanted.abs().max().clamp_min(1e-12))):
        return Folded(net, (), "folded, it gives other outputs")
    return folded


def _find_folds(traced: fx.GraphModule) -> tuple[Fold, ...]:
    """Batch norms that alone read the output of a convolution or linear layer, where both are called once."""
    modules = dict(traced.named_modules())
    names = traced.state_dict()
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    folds = []
    for node in traced.graph.nodes:
        if node.op != "call_module" or type(modules[node.target]) not in _NORMS:
            continue
        norm, before = modules[node.target], node.args[0]
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        once = calls[node.target] == calls[before.target] == 1
        known = f"{before.target}.weight" in names and f"{node.target}.running_var" in names
        if once and known and type(modules[before.target]) in _LAYERS:
            folds.append(Fold(str(before.target), str(node.target), norm.eps))
    return tuple(folds)


def _without_norms(traced: fx.GraphModule, folds: tuple[Fold, ...]) -> fx.GraphModule:
    """Copy the network without its folded batch norms, and give each layer before one a bias."""
    net = fx.GraphModule(traced, copy.deepcopy(traced.graph))
    norms = {fold.norm for fold in folds}
    for node in list(net.graph.nodes):
        if node.op == "call_module" and node.target in norms:
            node.replace_all_uses_with(node.args[0])
            net.graph.erase_node(node)
    for fold in folds:
        layer = copy.deepcopy(net.get_submodule(fold.layer))
        assert isinstance(layer.weight, Tensor)
        layer.bias = nn.Parameter(layer.weight.new_zeros(len(layer.weight)), requires_grad=False)
        net.set_submodule(fold.layer, layer)
    net.delete_all_unused_submodules()
    net.recompile()
    return net.eval()


def _random_state(net: nn.Module) -> StateDict:
    """The network's own weights with random batch norms.

    Their means and biases lie in [-0.5, 0.5], their weights and variances in [0.5, 1.5]. With the batch norms of a
    fresh network, which are nearly the identity, a wrong fold would pass the check.
    """
    generator = torch.Generator().manual_seed(0)
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for name, module in net.named_modules():
        if isinstance(module, _NORMS):
            for leaf in ("running_mean", "bias", "running_var", "weight"):
                key = f"{name}.{leaf}"
                if key in state:
                    drawn = torch.rand(state[key].shape, generator=generator).to(state[key])
                    state[key] = drawn - 0.5 if leaf in ("running_mean", "bias") else drawn + 0.5
    return state
