"""Batch-norm statistics measured anew on training images, for weights whose statistics no longer fit them."""

from __future__ import annotations

import copy
import math
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from popgen.archs import ArchSpec
from popgen.networks.fast import fast_network
from popgen.networks.skeleton import KEPT, skeleton
from popgen.types import Images

_BATCH = 500  # images a forward pass; the statistics of the batches are averaged
_LEAST = 100  # of large images, on which smaller batches are twice as quick; below, statistics of a batch get noisy


@torch.no_grad()
def reestimate(spec: ArchSpec, flat: Tensor, inputs: Images) -> Tensor:
    """The same weights (p,) with running means and variances of `inputs`, averaged over batches of 100 to 500 images.

    >>> spec = ArchSpec.from_config("mlp-s")
    >>> reestimate(spec, torch.zeros(spec.size), torch.zeros(4, 1, 8, 8)).equal(torch.zeros(spec.size))
    True
    """
    if not spec.has_batch_norm:
        return flat
    net, fast = _measuring(spec, flat.device), fast_network(spec, flat.device)
    net.load_state_dict(fast.arranged(spec.to_state(flat)))
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.reset_running_stats()
    largest = min(_BATCH, max(_LEAST, fast.batch))
    for batch in inputs.tensor_split(math.ceil(len(inputs) / largest)):  # even parts: one image alone has no variance
        net(fast.arrange(batch))
    return spec.to_flat(net.state_dict())


@lru_cache(maxsize=KEPT)
def _measuring(spec: ArchSpec, device: torch.device) -> nn.Module:
    """The architecture with batch norms that measure."""
    net = copy.deepcopy(skeleton(spec)).to(device)
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = None  # torch then keeps the plain average over batches
            module.train()
    if fast_network(spec, device).channels_last:
        net.to(memory_format=torch.channels_last)
    return net
