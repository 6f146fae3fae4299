"""Refits a linear head in closed form: ridge regression to the classes, with a penalty chosen by leave-one-out residuals.

With X the centred features and X'X = V S V', the leave-one-out residual of example i is (y_i - f_i) / (1 - h_i), where h_i is
the i-th diagonal entry of the hat matrix (Hastie et al., The Elements of Statistical Learning, section 7.10). The scores
are then scaled by one factor that minimises the leave-one-out cross-entropy, so that they are logits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_PENALTIES = torch.logspace(-5, 1, 7, dtype=torch.float64)  # in units of the mean squared singular value
# Factors of regression scores, most of which lie in [-0.2, 1.2].
_FACTORS = torch.logspace(-0.5, 2, 26, dtype=torch.float64)


@dataclass(frozen=True)
class RidgeHead:
    """A head: weight (classes, features) and bias (classes,), with its leave-one-out loss and accuracy."""

    weight: Tensor
    bias: Tensor
    loss: float  # leave-one-out cross-entropy on the training images
    accuracy: float  # leave-one-out accuracy on the training images, 0 to 1
    penalty: float  # the chosen penalty


def fit_ridge_head(features: Tensor, labels: Tensor, classes: int, intercept: bool = True) -> RidgeHead:
    """Fit a head on features (n, f) and labels (n,); without an `intercept` the bias is zero.

    >>> x = torch.eye(3).repeat(20, 1)
    >>> head = fit_ridge_head(x, torch.arange(3).repeat(20), 3)
    >>> bool(((x @ head.weight.T + head.bias).argmax(1) == torch.arange(3).repeat(20)).all())
    True
    """
    x, y = features.double(), F.one_hot(labels, classes).double()
    n = len(x)
    x_mean, y_mean = (x.mean(0), y.mean(0)) if intercept else (torch.zeros_like(x[0]), torch.zeros_like(y[0]))
    x, y = x - x_mean, y - y_mean
    s, v = torch.linalg.eigh(x.T @ x)
    s = s.clamp_min(0)
    rotated, target = x @ v, v.T @ (x.T @ y)  # (n, f), (f, classes)
    unit = s.sum().clamp_min(1e-12) / len(s)
    best: tuple[Tensor, Tensor, float, Tensor] | None = None
    for penalty in _PENALTIES * unit:
        shrink = 1 / (s + penalty)
        leverage = (rotated.square() @ shrink + intercept / n).clamp_max(
            1 - 1e-6
        )  # 1 / n because the mean is fitted, too
        residual = (y - rotated @ (shrink[:, None] * target)) / (1 - leverage)[:, None]
        error = residual.square().mean()
        if best is None or error < best[0]:
            best = error, v @ (shrink[:, None] * target), float(penalty), y - residual
    assert best is not None
    _, coefficients, chosen, left_out = best
    scores = left_out + y_mean
    losses = torch.stack([F.cross_entropy(scores * factor, labels) for factor in _FACTORS])
    factor = _FACTORS[losses.argmin()]
    bias = factor * (y_mean - x_mean @ coefficients)
    return RidgeHead(
        (factor * coefficients.T).float().contiguous(),
        bias.float(),
        float(losses.min()),
        float((scores.argmax(1) == labels).double().mean()),
        chosen,
    )
