"""What can be measured of a network's outputs beside the loss; lower is better in all of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from popgen.types import Labels

_BINS = 15  # as in Guo et al.


def error(logits: Tensor, labels: Labels) -> float:
    """Share of wrong answers, 0 to 1."""
    return float((logits.argmax(1) != labels).float().mean())


def cross_entropy(logits: Tensor, labels: Labels) -> float:
    """Mean negative log likelihood in nats, at the network's own temperature."""
    return float(F.cross_entropy(logits, labels))


def calibration_error(logits: Tensor, labels: Labels) -> float:
    """Expected calibration error in 15 bins of confidence, 0 to 1 (Guo et al., On calibration of modern neural networks, 2017).

    >>> calibration_error(torch.tensor([[20.0, 0.0], [20.0, 0.0]]), torch.tensor([0, 1]))
    0.5
    """
    confidence, answer = logits.softmax(1).max(1)
    right = (answer == labels).float()
    bins = (confidence * _BINS).long().clamp(max=_BINS - 1)
    gaps = logits.new_zeros(_BINS).index_add(0, bins, confidence - right)  # of each bin: its share times its mean gap
    return float(gaps.abs().sum() / len(labels))


def worst_class_error(logits: Tensor, labels: Labels) -> float:
    """Share of wrong answers in the class that is worst off, 0 to 1; classes without examples do not count.

    >>> worst_class_error(torch.eye(2)[[0, 0, 0]], torch.tensor([0, 0, 1]))
    1.0
    """
    wrong = (logits.argmax(1) != labels).float()
    count = torch.bincount(labels).float()
    errors = torch.bincount(labels, weights=wrong)[count > 0] / count[count > 0]
    return float(errors.max())


MEASURES: dict[str, Callable[[Tensor, Labels], float]] = {
    "error": error,
    "cross_entropy": cross_entropy,
    "calibration_error": calibration_error,
    "worst_class_error": worst_class_error,
}
