"""Regression mean: each layer is the least-squares fit to the outputs of all experts' layers (Jin et al., arXiv 2212.09849).

For weights W_i (out, in) and the inputs X_i (rows, in) of expert i's layer, the minimum over W of the sum over i of
||X_i W^T - X_i W_i^T||^2 is W^T = (sum G_i)^-1 sum G_i W_i^T with the Gram matrices G_i = X_i^T X_i. A convolution is the linear map
of its patches. The inputs of a layer are those in its own expert, on the expert's own images. Biases and all other tensors are averaged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from popgen.archs import ArchSpec
from popgen.errors import BadInput
from popgen.merging.given import Merged, Merging
from popgen.networks.skeleton import skeleton

_BATCH = 100  # images in one pass
_RIDGE = 1e-8  # added to the mean of the diagonal: where no input says anything, the average of the experts stays


def regmean(given: Merging) -> Merged:
    """Fit each linear layer and convolution, and average the rest."""
    layers = fitted_layers(given.spec)
    if not layers:
        raise BadInput(
            f"regmean cannot merge {given.spec.name!r}",
            "it fits linear layers and convolutions padded with zeros, and the network has none of its own",
            "Take another method.",
        )
    average = given.experts.mean(0)
    merged = dict(given.spec.to_state(average))
    totals: dict[str, Tensor] = {}  # sums of G_i
    moves: dict[str, Tensor] = {}  # sums of G_i (W_i - average)
    for index, expert in enumerate(given.experts):
        state = given.spec.to_state(expert)
        for name, gram in gram_matrices(given.spec, expert, given.inputs_of(index), given.settings.shrink).items():
            away = _rows(layers[name], state[f"{name}.weight"] - merged[f"{name}.weight"]).double().mT
            totals[name] = totals[name] + gram if name in totals else gram
            moves[name] = moves[name] + gram @ away if name in moves else gram @ away
    for name, total in totals.items():
        weight = merged[f"{name}.weight"]
        merged[f"{name}.weight"] = weight + _solved(total, moves[name]).mT.reshape(weight.shape).to(weight)
    text = f"{len(totals)} layers fitted by their inputs, the rest averaged"
    read = sum(len(given.inputs_of(i)) for i in range(len(given.experts)))
    return Merged(given.finished(given.spec.to_flat(merged)), text, passes=read + given.passes)


def fitted_layers(spec: ArchSpec) -> dict[str, nn.Module]:
    """The layers that regression fits, by name: linear ones, and two-dimensional convolutions that pad with zeros."""
    names = {t.name for t in spec.tensors}
    return {
        name: module
        for name, module in skeleton(spec).named_modules()
        if f"{name}.weight" in names
        and (
            isinstance(module, nn.Linear)
            or (
                isinstance(module, nn.Conv2d) and module.padding_mode == "zeros" and not isinstance(module.padding, str)
            )
        )
    }


@torch.no_grad()
def gram_matrices(spec: ArchSpec, flat: Tensor, inputs: Tensor, shrink: float) -> dict[str, Tensor]:
    """Gram matrices (groups, in, in) of the inputs of each layer that regression fits, in float64, averaged over the images.

    The mean in place of the sum gives every expert the same weight, however many images it has.

    Args:
        shrink: factor of the entries off the diagonal, 0 to 1 (.9 in the paper).
    """
    grams: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def add(module: nn.Module, args: tuple[Any, ...]) -> None:
            rows = layer_inputs(module, args[0])
            grams[name] = grams.get(name, 0.0) + (rows.mT @ rows).double() / len(inputs)

        return add

    layers = fitted_layers(spec)
    hooks = [module.register_forward_pre_hook(hook(name)) for name, module in layers.items()]
    try:
        for batch in inputs.split(_BATCH):
            functional_call(skeleton(spec), spec.to_state(flat), (batch,))
    finally:
        for one in hooks:
            one.remove()
    for gram in grams.values():
        gram.copy_(shrink * gram + (1 - shrink) * torch.diag_embed(gram.diagonal(dim1=1, dim2=2)))
    return grams


def layer_inputs(module: nn.Module, inputs: Tensor) -> Tensor:
    """What a layer multiplies its weights with: (groups, rows, in); a convolution's rows are its patches."""
    if not isinstance(module, nn.Conv2d):
        return inputs.flatten(0, -2)[None]
    padding = tuple(int(side) for side in module.padding)
    patches = F.unfold(inputs, module.kernel_size, module.dilation, padding, module.stride)
    grouped = patches.unflatten(1, (module.groups, -1))  # (images, groups, in, places)
    return grouped.permute(1, 0, 3, 2).flatten(1, 2)


def _rows(module: nn.Module, weight: Tensor) -> Tensor:
    """Weights as matrices (groups, out, in)."""
    groups = module.groups if isinstance(module, nn.Conv2d) else 1
    return weight.reshape(groups, weight.shape[0] // groups, -1)


def _solved(total: Tensor, moved: Tensor) -> Tensor:
    """The solution X (groups, in, out) of (total + a small ridge) X = moved."""
    ridge = _RIDGE * total.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-30)
    identity = torch.eye(total.shape[1], dtype=total.dtype, device=total.device)
    return torch.linalg.solve(total + ridge[:, None, None] * identity, moved)
