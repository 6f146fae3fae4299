"""Networks as functions of a flat vector of weights: their inputs, outputs, losses and accuracies.

Outputs and losses are differentiable with respect to the weights. Batch norm uses the given running statistics, as the network
will when it is used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from popgen.archs import ArchConfig, ArchSpec, build
from popgen.data import Part
from popgen.data.datasets import fit_images
from popgen.types import Flat, Images, Labels

_BATCH = 1000  # images a forward pass: bounds memory, large enough to keep a core busy
_SKELETONS: dict[str, nn.Module] = {}


def skeleton(spec: ArchSpec) -> nn.Module:
    """An instance of the architecture in evaluation mode, whose own weights do not matter; made once."""
    key = repr(spec.config)
    if key not in _SKELETONS:
        _SKELETONS[key] = build(spec.config, seed=0).eval().requires_grad_(False)
    return _SKELETONS[key]


def network_inputs(config: ArchConfig, images: Images) -> Images:
    """Images in [0, 1] as the network was trained on them: its size and channels, then (x - mean) / std."""
    images = fit_images(images, config.input_shape)
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (config.mean, config.std))
    return (images - mean) / std


def network_outputs(spec: ArchSpec, flat: Tensor, inputs: Images) -> Tensor:
    """Logits (n, classes) of the network with weights `flat` (p,), on inputs prepared by `network_inputs`.

    Running statistics count as constants, since torch's batch norm has no gradient for them.
    """
    state = spec.to_state(flat)
    for tensor in spec.tensors:
        if tensor.kind in ("norm_mean", "norm_var"):
            state[tensor.name] = state[tensor.name].detach()
    return functional_call(skeleton(spec), state, (inputs,))


def behaviour_loss(spec: ArchSpec, weights: Flat, batches: list[tuple[Images, Labels]]) -> Tensor:
    """Mean cross-entropy of the networks `weights` (n, p), each on its own prepared inputs and labels."""
    losses = [
        F.cross_entropy(network_outputs(spec, flat, inputs), labels)
        for flat, (inputs, labels) in zip(weights, batches, strict=True)
    ]
    return torch.stack(losses).mean()


@torch.no_grad()
def accuracy(spec: ArchSpec, flat: Tensor, part: Part) -> float:
    """Share of `part`, 0 to 1, that the network with weights `flat` (p,) classifies correctly."""
    inputs = network_inputs(spec.config, part.images)
    chunks = zip(inputs.split(_BATCH), part.labels.split(_BATCH), strict=True)
    right = sum(int((network_outputs(spec, flat, x).argmax(1) == y).sum()) for x, y in chunks)
    return right / len(part)
