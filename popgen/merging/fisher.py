"""Fisher-weighted averaging: each parameter is averaged with the experts' certainty about it (Matena & Raffel, arXiv 2111.09832).

An expert's weight for a parameter is the diagonal entry of its Fisher information, F = E_x E_y~p(y|x) (d log p(y|x) / d parameter)^2,
where y is drawn from the expert's own predictions, so that images need no labels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call

from popgen.merging.given import Merged, Merging
from popgen.networks.skeleton import skeleton

_FLOOR = 1e-6  # lower bound of a Fisher entry, as in the authors' code: where no expert is certain, the result is the average
EXACT = 16  # classes up to which the expectation over labels is exact
_DRAWN = 4  # labels that are drawn of each image for more classes


def fisher(given: Merging) -> Merged:
    """sum F_i * W_i / sum F_i, for each parameter."""
    numbers = torch.Generator().manual_seed(given.seed)
    weighted, total, passes = torch.zeros_like(given.experts[0]), torch.zeros_like(given.experts[0]), 0
    for index, expert in enumerate(given.experts):
        inputs = given.inputs_of(index)
        taken = torch.randperm(len(inputs), generator=numbers)[: given.settings.images]
        information, cost = diagonal_fisher(given, expert, inputs[taken], numbers)
        information = information.clamp_min(_FLOOR)
        weighted, total, passes = weighted + information * expert, total + information, passes + cost
    text = f"weighted by the Fisher information of {len(taken)} images each"
    return Merged(given.finished(weighted / total), text, passes=passes + given.passes)


def diagonal_fisher(given: Merging, flat: Tensor, inputs: Tensor, numbers: torch.Generator) -> tuple[Tensor, int]:
    """The diagonal (p,) of a network's Fisher information, averaged over prepared inputs, and its cost in image passes.

    The expectation over labels is exact up to 16 classes, and else a mean over 4 labels drawn from the predictions.
    """
    total, passes, net = torch.zeros_like(flat), 0, skeleton(given.spec)
    parameters = flat.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        for one in inputs.split(1):
            log_p = functional_call(net, given.differentiable(parameters), (one,)).log_softmax(1)[0]
            p = log_p.detach().exp()
            if len(p) <= EXACT:
                labels, shares = torch.arange(len(p)), p
            else:
                labels = torch.multinomial(p.cpu(), _DRAWN, replacement=True, generator=numbers)
                shares = p.new_full((_DRAWN,), 1 / _DRAWN)
            for label, share in zip(labels, shares, strict=True):
                (gradient,) = torch.autograd.grad(log_p[label], parameters, retain_graph=True)
                total += share * gradient.square()
            passes += 1 + 2 * len(labels)
    return total / len(inputs), passes
