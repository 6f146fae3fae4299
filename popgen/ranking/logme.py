"""LogME: the evidence of a Bayesian linear regression from features to each class (You et al., ICML 2021, arXiv 2102.11005).

The two precisions are found by the fixed-point iteration of the longer article (You et al., JMLR 2022).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from popgen.ranking.seen import Score, Seen, folds, jackknifed

_ITERATIONS = 11
_SMALL = 1e-5


def logme(seen: Seen) -> Score:
    """The logarithm of the evidence for each example, in nats, averaged over the classes."""

    def value(index: Tensor) -> float:
        return evidence(seen.features[index], F.one_hot(seen.targets[index], seen.classes))

    return jackknifed(value(torch.arange(len(seen))), [value(kept) for kept in folds(len(seen))])


def evidence(features: Tensor, values: Tensor) -> float:
    """The mean over the columns of `values` (n, m) of log p(column | features (n, f)) / n at the best precisions.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(50, 1)
    >>> noise = torch.rand(100, 1, generator=torch.Generator().manual_seed(0)).round()
    >>> evidence(x, x[:, :1]) > evidence(x, noise)
    True
    """
    x, y = features.double(), values.double()
    n, f = x.shape
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    s = s.square()[:, None]
    inside = (u.T @ y).square()  # (rank, m): what the features can explain of each column, by singular direction
    outside = (y.square().sum(0) - inside.sum(0)).clamp_min(0)
    alpha, beta = torch.ones_like(outside), torch.ones_like(outside)  # precisions of the weights, and of the noise
    for _ in range(_ITERATIONS):
        t = alpha / beta
        gamma = (s / (s + t)).sum(0)
        weights = (s * inside / (t + s).square()).sum(0)  # squared norm of the posterior's mean
        residual = (inside / (1 + s / t).square()).sum(0) + outside
        alpha = (gamma / (weights + _SMALL)).clamp_min(_SMALL)  # it would be 0 for features that are
        beta = ((n - gamma) / (residual + _SMALL)).clamp_min(_SMALL)
    determinant = (alpha + beta * s).log().sum(0) + (f - len(s)) * alpha.log()
    energy = beta * residual + alpha * weights
    total = f * alpha.log() + n * beta.log() - determinant - energy - n * math.log(2 * math.pi)
    return float((total / (2 * n)).mean())
