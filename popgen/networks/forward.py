"""Networks as functions of a flat vector of weights: their inputs, outputs, losses and accuracies.

Outputs and losses are differentiable with respect to the weights. Batch norm uses the given running statistics, as the network
will when it is used. What needs no gradient runs faster by `popgen.networks.passes`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from popgen.archs import ArchConfig, ArchSpec
from popgen.data import Part
from popgen.data.load import fit_images
from popgen.errors import BadInput
from popgen.networks.passes import Passes
from popgen.networks.skeleton import skeleton
from popgen.types import Flat, Images, Labels, StateDict


def network_inputs(config: ArchConfig, images: Images) -> Images:
    """Images in [0, 1] as the network was trained on them: its size and channels, then (x - mean) / std."""
    images = fit_images(images, config.input_shape)
    mean, std = (torch.tensor(v, device=images.device).view(1, -1, 1, 1) for v in (config.mean, config.std))
    return (images - mean) / std


def network_outputs(spec: ArchSpec, flat: Tensor, inputs: Images) -> Tensor:
    """Logits (n, classes) of the network with weights `flat` (p,), on inputs prepared by `network_inputs`."""
    return functional_call(skeleton(spec), spec.to_state(flat), (inputs,))


def _differentiable(spec: ArchSpec, flat: Tensor) -> StateDict:
    """The state with running statistics moved into batch norm's weight and bias: torch has no gradient for statistics.

    The same function of the same numbers: weight' = weight / sqrt(var + eps), bias' = bias - mean * weight'.
    """
    state = spec.to_state(flat)
    for name, module in skeleton(spec).named_modules():
        if isinstance(module, _BatchNorm) and module.affine and module.track_running_stats:
            weight, bias, mean, var = (f"{name}.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var"))
            state[weight] = state[weight] * torch.rsqrt(state[var] + module.eps)
            state[bias] = state[bias] - state[mean] * state[weight]
            state[mean] = torch.zeros_like(state[mean]).detach()
            state[var] = torch.full_like(state[var], 1 - module.eps).detach()
    return state


def network_features(spec: ArchSpec, flat: Tensor, inputs: Images) -> Tensor:
    """What enters the head (the last linear layer), shape (n, features).

    Raises:
        BadInput: the network does not call it.
    """
    net = skeleton(spec)
    seen: list[Tensor] = []
    hook = net.get_submodule(spec.head).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        functional_call(net, spec.to_state(flat), (inputs,))
    finally:
        hook.remove()
    if not seen:
        raise BadInput(f"{spec.name!r} does not call its last linear layer {spec.head!r}", "so it has no features", "")
    return seen[0].flatten(1)


def behaviour_loss(spec: ArchSpec, weights: Flat, batches: list[tuple[Images, Labels]]) -> Tensor:
    """Mean cross-entropy of the networks `weights` (n, p), each on its own prepared inputs and labels."""
    net = skeleton(spec)
    losses = [
        F.cross_entropy(functional_call(net, _differentiable(spec, flat), (inputs,)), labels)
        for flat, (inputs, labels) in zip(weights, batches, strict=True)
    ]
    return torch.stack(losses).mean()


def distillation_losses(
    spec: ArchSpec,
    weights: Flat,
    batches: list[tuple[Images, Tensor, Labels]],
    distil: float = 1.0,
    labels: float = 0.0,
    sharpness: float = 1.0,
) -> Tensor:
    """How far each of the networks `weights` (n, p) is from what it should do, shape (n,); differentiable.

    Args:
        batches: for each network prepared inputs (m, c, h, w), the original's logits (m, classes), and labels (m,).
        distil: weight of KL(original || network) at temperature 1 (Hinton et al., arXiv 1503.02531), nats an image.
        labels: weight of the cross-entropy to the labels.
        sharpness: factor of the logits in that cross-entropy; above 1 it counts errors more and confidence less.
    """
    net = skeleton(spec)
    losses = []
    for flat, (inputs, wanted, truth) in zip(weights, batches, strict=True):
        logits = functional_call(net, _differentiable(spec, flat), (inputs,))
        divergence = F.kl_div(logits.log_softmax(1), wanted.log_softmax(1), log_target=True, reduction="batchmean")
        losses.append(distil * divergence + labels * F.cross_entropy(sharpness * logits, truth))
    return torch.stack(losses)


@torch.no_grad()
def accuracy(spec: ArchSpec, flat: Tensor, part: Part) -> float:
    """Share of `part`, 0 to 1, that the network with weights `flat` (p,) classifies correctly."""
    inputs = network_inputs(spec.config, part.inputs.to(flat.device))
    found = Passes(spec, inputs).outputs(flat).argmax(1)
    return int((found == part.targets.to(flat.device)).sum()) / len(part)
