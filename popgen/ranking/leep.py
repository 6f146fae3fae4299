"""LEEP: how well the network's own outputs predict the classes through their joint frequencies (Nguyen et al., ICML 2020, arXiv 2002.12462)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from popgen.ranking.seen import Score, Seen, mean_score
from popgen.types import Labels


def leep(seen: Seen) -> Score:
    """The mean logarithm of the expected prediction, in nats; the names of the outputs are not needed."""
    return mean_score(expected_log_predictions(seen.outputs.softmax(1), seen.targets, seen.classes))


def expected_log_predictions(shares: Tensor, targets: Labels, classes: int) -> Tensor:
    """log sum over z of P(y | z) P(z | x) for each example (n,), P(y | z) from the examples' own joint frequencies.

    Args:
        shares: P(z | x), shape (n, z).

    >>> shares = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> expected_log_predictions(shares, torch.tensor([0, 1]), 2).tolist()
    [0.0, 0.0]
    """
    shares = shares.double()
    joint = F.one_hot(targets, classes).double().T @ shares  # (classes, z)
    given = joint / joint.sum(0).clamp_min(torch.finfo(torch.float64).tiny)
    return (shares * given[targets]).sum(1).clamp_min(torch.finfo(torch.float64).tiny).log()
