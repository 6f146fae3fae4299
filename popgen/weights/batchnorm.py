"""Batch-norm statistics measured anew on training images, for weights whose statistics no longer fit them."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from popgen.archs import ArchSpec
from popgen.types import Images
from popgen.weights.network import skeleton

_BATCH = 500  # images a forward pass; the statistics of the batches are averaged


@torch.no_grad()
def reestimate(spec: ArchSpec, flat: Tensor, inputs: Images) -> Tensor:
    """The same weights (p,) with running means and variances of `inputs`, averaged over batches.

    >>> spec = ArchSpec.from_config("mlp-s")
    >>> reestimate(spec, torch.zeros(spec.size), torch.zeros(4, 1, 8, 8)).equal(torch.zeros(spec.size))
    True
    """
    if not spec.has_batch_norm:
        return flat
    net = copy.deepcopy(skeleton(spec))
    net.load_state_dict(spec.to_state(flat))
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.reset_running_stats()
            module.momentum = None  # torch then keeps the plain average over batches
            module.train()
    for batch in inputs.tensor_split(math.ceil(len(inputs) / _BATCH)):  # even parts: one image alone has no variance
        net(batch)
    return spec.to_flat(net.state_dict())
