"""AdaMerging: coefficients of the task vectors that make predictions certain (Yang et al., arXiv 2310.02575; layer-wise, no trimming).

The merged network is base + sum over experts k and layers l of c_kl * (expert k - base) in layer l. Adam changes the coefficients to
minimise the mean entropy of predictions on unlabelled images of all experts' data. Where batch norm is re-estimated, the steps use the
statistics of each batch.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from popgen.merging.given import Merged, Merging
from popgen.networks.skeleton import skeleton

_START = 0.3  # coefficient to begin with, as in the paper


def adamerging(given: Merging) -> Merged:
    """Fit a coefficient for each layer and expert, and merge with them."""
    coefficients, passes = layer_coefficients(given)
    text = f"coefficients from {float(coefficients.min()):.2f} to {float(coefficients.max()):.2f}"
    return Merged(given.finished(_mixed(given, coefficients)), text, passes=passes + given.passes)


def layer_coefficients(given: Merging) -> tuple[Tensor, int]:
    """Coefficients (experts, layers) after the steps of Adam, and their cost in image passes."""
    settings, numbers = given.settings, torch.Generator().manual_seed(given.seed)
    start = _START if settings.scale is None else settings.scale
    layers = max(t.layer for t in given.spec.tensors) + 1
    coefficients = given.experts.new_full((len(given.experts), layers), start, requires_grad=True)
    optimizer = torch.optim.Adam([coefficients], lr=settings.lr)
    net, passes = _network(given), 0
    with torch.enable_grad():
        for _ in range(settings.steps):
            batch = torch.cat(
                [one[torch.randperm(len(one), generator=numbers)[: settings.batch]] for one in given.inputs]
            )
            optimizer.zero_grad()
            logits = functional_call(net, given.differentiable(_mixed(given, coefficients)), (batch,))
            log_p = logits.log_softmax(1)
            (-log_p.exp() * log_p).sum(1).mean().backward()
            optimizer.step()
            passes += 3 * len(batch)
    return coefficients.detach(), passes


def _mixed(given: Merging, coefficients: Tensor) -> Tensor:
    """The network (p,) with these coefficients (experts, layers); running statistics are the experts' average."""
    assert given.base is not None, "checked before"
    tensors, fixed = given.spec.tensors, torch.where(given.is_statistic, given.experts.mean(0), given.base)
    sizes = [t.size for t in tensors]
    parts = zip(tensors, fixed.split(sizes), given.vectors.split(sizes, dim=1), strict=True)
    return torch.cat([base + coefficients[:, t.layer] @ vectors for t, base, vectors in parts])


def _network(given: Merging) -> nn.Module:
    """The network in evaluation mode, but for batch norms with the statistics of each batch where they are re-estimated."""
    net = copy.deepcopy(skeleton(given.spec)).to(given.experts.device)
    if given.reestimates:
        for module in net.modules():
            if isinstance(module, _BatchNorm):
                module.train()
    return net
