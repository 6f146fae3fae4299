"""The gain in mutual information between image and prediction from one network to another, with its error, without labels.

The mutual information is the mean over the images of the Kullback-Leibler divergence of an image's prediction from the mean
prediction. The delta method says that these divergences are also the influences of the images (to first order in 1/n the
mean prediction may be taken as fixed), so that the standard error of a difference is that of a mean of paired differences.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# A network is given up for another one only for a gain above so many standard errors: chance alone passes one of them in a
# sixth of all cases, and two of them in a fortieth.
STANDARD_ERRORS = 2.0


def information_gain(before: Tensor, after: Tensor) -> tuple[float, float]:
    """Return the gain in mutual information and its standard error, both in nats.

    The error is infinite for fewer than two images, and for few images it is widened as Student's distribution widens two
    standard errors (first term of Abramowitz and Stegun, 26.7.5). Neither number is finite where the logits are not.

    Args:
        before, after: logits (n, classes) of two networks for the same images in the same order.

    >>> certain, guessing = torch.eye(2).repeat(50, 1) * 50, torch.zeros(100, 2)
    >>> tuple(round(value, 4) for value in information_gain(guessing, certain))
    (0.6931, 0.0)
    """
    return mean_and_error(paired_gains(before, after))


def paired_gains(before: Tensor, after: Tensor) -> Tensor:
    """Return what each image (n,) contributes to the gain, in nats; the mean is the gain."""
    return _divergences(after) - _divergences(before)


def mean_and_error(paired: Tensor) -> tuple[float, float]:
    """Return the mean of paired gains (n,) and its standard error, as `information_gain` describes them."""
    n = len(paired)
    widened = 1 + (STANDARD_ERRORS**2 + 1) / (4 * (n - 1)) if n > 1 else math.inf
    return float(paired.mean()), widened * float(paired.std()) / math.sqrt(n) if n > 1 else math.inf


def is_gain(gain: float, error: float, errors: float = STANDARD_ERRORS) -> bool:
    """Whether a gain is above zero by so many standard errors; a gain that is not a number is none.

    >>> is_gain(0.3, 0.1), is_gain(0.1, 0.1), is_gain(0.0, 0.0)
    (True, False, False)
    """
    return math.isfinite(gain) and gain > errors * error


def _divergences(logits: Tensor) -> Tensor:
    """Divergences (n,) of the images' predictions from the mean prediction, in nats; their mean is the mutual information."""
    predictions = logits.double().softmax(1)
    mean = predictions.mean(0)
    return (torch.special.xlogy(predictions, predictions) - torch.special.xlogy(predictions, mean)).sum(1)
