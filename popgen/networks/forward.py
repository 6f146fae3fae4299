"""Networks as functions of a flat vector of weights: their outputs, losses and scores.

Outputs and losses are differentiable with respect to the weights. Batch norm uses the running statistics among the
weights, as in evaluation mode. Evaluation without gradients is faster with `popgen.networks.passes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from popgen.archs import ArchSpec
from popgen.data import DataSet, Part
from popgen.errors import BadInput
from popgen.networks.passes import Passes
from popgen.networks.skeleton import skeleton
from popgen.networks.together import outputs_together, run_together
from popgen.tasks import get_task
from popgen.types import Flat, StateDict

_SCORED = 200  # examples on which costly networks are scored in training
Batch = tuple[Tensor, Tensor]  # prepared inputs and targets


def network_outputs(spec: ArchSpec, flat: Tensor, inputs: Tensor) -> Tensor:
    """Outputs (n, ..., classes) of the network with weights `flat` (p,) on prepared inputs (n, ...)."""
    return functional_call(skeleton(spec), spec.to_state(flat), (inputs,))


def network_features(spec: ArchSpec, flat: Tensor, inputs: Tensor, differentiable: bool = False) -> Tensor:
    """Inputs (n, features) of the head, which is the last linear layer.

    Args:
        differentiable: whether a gradient with respect to the weights is needed.

    Raises:
        BadInput: the network does not call its last linear layer.
    """
    net = skeleton(spec)
    seen: list[Tensor] = []
    hook = net.get_submodule(spec.head).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        functional_call(net, _differentiable_state(spec, flat) if differentiable else spec.to_state(flat), (inputs,))
    finally:
        hook.remove()
    if not seen:
        raise BadInput(f"{spec.name!r} does not call its last linear layer {spec.head!r}", "so it has no features", "")
    return seen[0].flatten(1)


def outputs_of_each(specs: Sequence[ArchSpec], weights: Flat, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
    """Outputs (m, ..., classes) of each of the networks `weights` (n, p) on its own prepared inputs (m, ...); differentiable.

    Small networks of one architecture run in one pass.

    Args:
        specs: the architecture of each network, for the classes of its batch.
    """
    if run_together(specs, inputs):
        return outputs_together(specs[0], weights, torch.stack(list(inputs))).unbind()
    return [_differentiable_outputs(*one) for one in zip(specs, weights, inputs, strict=True)]


def behaviour_loss(specs: Sequence[ArchSpec], weights: Flat, batches: list[Batch]) -> Tensor:
    """Mean task loss of the networks `weights` (n, p), each on its own batch; differentiable.

    Args:
        specs: the architecture of each network, for the classes of its batch.
    """
    outputs = outputs_of_each(specs, weights, [inputs for inputs, _ in batches])
    pairs = zip(specs, outputs, batches, strict=True)
    return torch.stack([get_task(spec.config.task).loss(found, targets) for spec, found, (_, targets) in pairs]).mean()


def distillation_losses(
    specs: Sequence[ArchSpec],
    weights: Flat,
    batches: list[tuple[Tensor, Tensor, Tensor]],
    distil: float = 1.0,
    labels: float = 0.0,
) -> Tensor:
    """Losses (n,) of the networks `weights` (n, p) against the outputs of their originals and the labels.

    They are differentiable. The last axis of the outputs is read as logits.

    Args:
        specs: as in `behaviour_loss`.
        batches: for each network prepared inputs (m, ...), the original's logits (m, ..., classes), and targets.
        distil: weight of KL(original || network) at temperature 1 in nats per target (Hinton et al., arXiv 1503.02531).
        labels: weight of the task's own loss.
    """
    losses = []
    found = outputs_of_each(specs, weights, [inputs for inputs, _, _ in batches])
    for spec, outputs, (_, original, targets) in zip(specs, found, batches, strict=True):
        student, teacher = (logits.flatten(0, -2).log_softmax(-1) for logits in (outputs, original))
        divergence = F.kl_div(student, teacher, log_target=True, reduction="batchmean")
        losses.append(distil * divergence + labels * get_task(spec.config.task).loss(outputs, targets))
    return torch.stack(losses)


@torch.no_grad()
def task_score(spec: ArchSpec, flat: Tensor, data: DataSet, split: str = "val") -> float:
    """Score of the network with weights `flat` (p,) on a split, in the unit of its task (accuracy: 0 to 1)."""
    spec, part = spec.for_classes(data.label_phrases), getattr(data, split)
    inputs = spec.config.inputs.prepare(part.inputs.to(flat.device))
    return get_task(spec.config.task).score(Passes(spec, inputs).outputs(flat), part.targets.to(flat.device))


def fewer(data: DataSet, spec: ArchSpec, split: str = "val") -> DataSet:
    """The data set with at most 200 random examples in a split, where an architecture's inputs are costly; else the data set.

    Training and compression score every checkpoint several times. The standard error on 200 examples is at most 3.5 points for
    a single network, and a fraction of it for the mean over a zoo.
    """
    part: Part = getattr(data, split)
    if not spec.config.inputs.costly or len(part) <= _SCORED:
        return data
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(0), device="cpu")[:_SCORED]
    kept = part.take(order)
    if split == "train":
        return replace(data, train=kept)
    return replace(data, val=kept) if split == "val" else replace(data, test=kept)


def _differentiable_outputs(spec: ArchSpec, flat: Tensor, inputs: Tensor) -> Tensor:
    return functional_call(skeleton(spec), _differentiable_state(spec, flat), (inputs,))


def _differentiable_state(spec: ArchSpec, flat: Tensor) -> StateDict:
    """The state dict with running statistics moved into the weights and biases of batch norms.

    torch has no gradient with respect to running statistics, but has one with respect to weights and biases. The
    network stays the same function: weight' = weight / sqrt(var + eps) and bias' = bias - mean * weight'.
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
