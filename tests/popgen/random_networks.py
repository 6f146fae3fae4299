"""Random networks for tests, as flat vectors and as modules."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from popgen.archs import ArchSpec, build

ARCHS = ["mlp-s", "cnn-s", "cnn-m", "resnet-s"]


def network(spec: ArchSpec, seed: int = 0) -> Tensor:
    """Random weights (p,) of a network in which no batch norm is the identity."""
    flat = spec.to_flat(build(spec.config, seed=seed).state_dict())
    moved = flat + 0.1 * torch.randn(spec.size, generator=torch.Generator().manual_seed(seed))
    state = spec.to_state(moved)
    for tensor in spec.tensors:
        if tensor.kind == "norm_var":
            state[tensor.name].copy_(state[tensor.name].abs() + 0.2)
    return moved


def module(spec: ArchSpec, flat: Tensor) -> nn.Module:
    net = build(spec.config, seed=9).to(flat.dtype).eval()
    net.load_state_dict(spec.to_state(flat))
    return net


# Scaling
