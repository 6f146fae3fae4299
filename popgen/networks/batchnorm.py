"""Batch-norm statistics re-estimated on other images, wholly or in part, for weights that their old statistics do not fit."""

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

# Statistics are averaged over batches of these sizes. Large images run twice as fast in smaller batches than 500, but
# with fewer than 100 images the statistics of a batch become noisy.
_MOST_IMAGES = 500
_FEWEST_IMAGES = 100
_STATISTICS = ("norm_mean", "norm_var")  # kinds of tensors


@torch.no_grad()
def reestimate(spec: ArchSpec, flat: Tensor, inputs: Images) -> Tensor:
    """Replace the running means and variances in the weights (p,) by those of prepared inputs, and return the result.

    They are averages over batches of 100 to 500 images. Weights of networks without batch norm are returned unchanged.

    >>> spec = ArchSpec.from_config("mlp-s")
    >>> reestimate(spec, torch.zeros(spec.size), torch.zeros(4, 1, 8, 8)).equal(torch.zeros(spec.size))
    True
    """
    if not spec.has_batch_norm:
        return flat
    net, fast = _measuring_network(spec, flat.device), fast_network(spec, flat.device)
    net.load_state_dict(fast.arranged(spec.to_state(flat)))
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.reset_running_stats()
    largest = min(_MOST_IMAGES, max(_FEWEST_IMAGES, fast.batch))
    # The split is even, because a last batch of a single image would have no variance.
    for batch in inputs.tensor_split(math.ceil(len(inputs) / largest)):
        net(fast.arrange(batch))
    return spec.to_flat(net.state_dict())


def mix_statistics(spec: ArchSpec, flat: Tensor, reestimated: Tensor, share: float) -> Tensor:
    """Weights (p,) whose batch-norm statistics lie between those of `flat` and of `reestimated`; all else is of `flat`.

    Means and variances are averaged with weights 1 - share and share (Schneider et al., arXiv 2006.16971, with
    share = n / (n + N) for n images and a prior that is worth N images).

    Args:
        flat, reestimated: weights (p,) of the same network, before and after `reestimate`.
        share: 0 to 1; 0 returns `flat`, and 1 `reestimated`.
    """
    is_statistic = torch.cat([torch.full((t.size,), t.kind in _STATISTICS) for t in spec.tensors])
    return torch.where(is_statistic.to(flat.device), torch.lerp(flat, reestimated, share), flat)


@lru_cache(maxsize=KEPT)
def _measuring_network(spec: ArchSpec, device: torch.device) -> nn.Module:
    """The network in evaluation mode, but with batch norms that record the statistics of their inputs."""
    net = copy.deepcopy(skeleton(spec)).to(device)
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = None  # torch then averages over all batches with equal weights
            module.train()
    if fast_network(spec, device).channels_last:
        net.to(memory_format=torch.channels_last)
    return net
