"""Entropy minimisation on unlabelled images (TENT: Wang et al., arXiv 2006.10726): the rival of adaptation that takes gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from popgen.archs import ArchSpec, build
from popgen.networks.batchnorm import reestimate
from popgen.networks.threads import threads
from popgen.types import Images

_BATCH = 200  # images in each step, as in the paper
_RATE = 1e-3  # learning rate of Adam, as in the paper


def minimise_entropy(spec: ArchSpec, flat: Tensor, inputs: Images, epochs: int, seed: int = 0) -> Tensor:
    """Train scales and shifts of batch norm to give certain predictions, and return the weights (p,).

    In training, batch norm uses the statistics of each batch; those of the returned weights are re-estimated on the inputs.
    Weights of networks without batch norm are returned unchanged. An epoch is a forward and a backward pass over the inputs.

    Args:
        inputs: prepared images (n, ...).
        seed: decides their order.
    """
    if not spec.has_batch_norm or not epochs:
        return flat
    net = build(spec.config, seed=0)
    net.load_state_dict(spec.to_state(flat), strict=False)
    optimizer = torch.optim.Adam(_scales_and_shifts(net), lr=_RATE)
    order = torch.Generator().manual_seed(seed)
    net.train()
    with threads(1):
        for _ in range(epochs):
            for index in torch.randperm(len(inputs), generator=order).split(_BATCH):
                if len(index) < 2:  # A batch of one image has no variance.
                    continue
                optimizer.zero_grad()
                torch.special.entr(net(inputs[index]).softmax(1)).sum(1).mean().backward()
                optimizer.step()
    trained = spec.to_flat({name: tensor.detach() for name, tensor in net.state_dict().items()})
    return reestimate(spec, trained, inputs)


def _scales_and_shifts(net: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the batch norms; all others need no gradient from now on."""
    net.requires_grad_(False)
    found = [p for module in net.modules() if isinstance(module, _BatchNorm) for p in module.parameters()]
    for parameter in found:
        parameter.requires_grad_(True)
    return found
