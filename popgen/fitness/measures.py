"""Measures of a classifier's outputs that a search can minimise beside the loss; lower is better in all of them.

A measure is called by its name, or is a function of the user's own, `module:function`, of logits (n, classes) and labels (n,).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real

import torch
from torch import Tensor
from torch.nn import functional as F

from popgen.data.groups import EXAMPLE
from popgen.errors import BadInput, brief
from popgen.fitness.fairness import demographic_parity, equal_opportunity, equalised_odds
from popgen.fitness.loss import information_loss
from popgen.fitness.names import MEASURE_NAMES, OF_GROUPS, check_measure_name
from popgen.refs import load_attr
from popgen.types import Labels

_CONFIDENT = 10.0  # the logit of an answer that is nearly certain
_BINS = 15  # bins of confidence, as in Guo et al.


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
    gaps = logits.new_zeros(_BINS).index_add(0, bins, confidence - right)  # share of a bin times its mean gap
    return float(gaps.abs().sum() / len(labels))


def worst_class_error(logits: Tensor, labels: Labels) -> float:
    """Share of wrong answers in the class that is worst off, 0 to 1; classes without examples do not count.

    >>> worst_class_error(torch.eye(2)[[0, 0, 0]], torch.tensor([0, 0, 1]))
    1.0
    """
    return float(_errors_of(logits, labels, labels).max())


def balanced_error(logits: Tensor, labels: Labels) -> float:
    """Mean over the classes of their shares of wrong answers, 0 to 1; classes without examples do not count.

    >>> balanced_error(torch.eye(2)[[0, 0, 0]], torch.tensor([0, 0, 1]))
    0.5
    """
    return float(_errors_of(logits, labels, labels).mean())


def f1_error(logits: Tensor, labels: Labels) -> float:
    """1 - macro F1, 0 to 1: F1 = 2 tp / (2 tp + fp + fn), averaged over the classes that are labels or answers.

    >>> round(f1_error(torch.eye(2)[[0, 0, 0]], torch.tensor([0, 0, 1])), 3)
    0.6
    """
    answers, classes = logits.argmax(1), logits.shape[1]
    right = torch.bincount(labels[answers == labels], minlength=classes).double()
    counted = torch.bincount(answers, minlength=classes) + torch.bincount(labels, minlength=classes)
    return float(1 - (2 * right / counted)[counted > 0].mean())


def mutual_information(logits: Tensor, _labels: Labels) -> float:
    """The logarithm of the number of classes less the mutual information, in nats; the labels are not looked at.

    >>> round(mutual_information(torch.zeros(2, 2), torch.tensor([1, 0])), 4)
    0.6931
    """
    return information_loss(logits)


def worst_group_error(logits: Tensor, labels: Labels, groups: Labels) -> float:
    """Share of wrong answers in the group (n,) that is worst off, 0 to 1 (Sagawa et al., arXiv 1911.08731).

    >>> worst_group_error(torch.eye(2)[[0, 0, 0]], torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]))
    1.0
    """
    return float(_errors_of(logits, labels, groups).max())


def _errors_of(logits: Tensor, labels: Labels, parts: Labels) -> Tensor:
    """Share of wrong answers in each part that has examples."""
    wrong = (logits.argmax(1) != labels).double()
    count = torch.bincount(parts)
    return torch.bincount(parts, weights=wrong)[count > 0] / count[count > 0]


MEASURES: dict[str, Callable[[Tensor, Labels], float]] = {
    function.__name__: function
    for function in (
        error,
        cross_entropy,
        calibration_error,
        worst_class_error,
        balanced_error,
        f1_error,
        mutual_information,
    )
}
GROUP_MEASURES: dict[str, Callable[[Tensor, Labels, Labels], float]] = {
    function.__name__: function
    for function in (worst_group_error, demographic_parity, equal_opportunity, equalised_odds)
}
assert (tuple(MEASURES), tuple(GROUP_MEASURES)) == (MEASURE_NAMES, OF_GROUPS)


def check_measure(name: str) -> None:
    """Refuse a name that is neither a measure nor a function.

    Raises:
        NotFound: no such measure, module, or function in it.
        BadInput: it is no function.
    """
    if name in MEASURES or name in GROUP_MEASURES:
        return
    check_measure_name(name)
    if not callable(load_attr(name)):
        raise BadInput(f"the objective {name!r} cannot be called", "it is a function of logits and labels", "")


def measure(name: str, logits: Tensor, labels: Labels, groups: Labels | None = None) -> float:
    """The measure `name` of logits (n, classes) and labels (n,).

    Raises:
        BadInput: a measure of groups without groups or without two that can be compared, or a user's function that fails or
            returns no number.

    >>> measure("error", torch.eye(2), torch.tensor([0, 0]))
    0.5
    """
    if name in MEASURES:
        return MEASURES[name](logits, labels)
    if name in GROUP_MEASURES:
        if groups is None:
            raise BadInput(
                f"{name} needs groups",
                "none are known of these images",
                f"Give --groups FILE, or try --data {EXAMPLE}.",
            )
        return GROUP_MEASURES[name](logits, labels, groups)
    try:
        value = load_attr(name)(logits, labels)
        number = float(value) if isinstance(value, Real | Tensor) else None
    except Exception as error:  # it is the user's own code
        raise BadInput(f"the objective {name!r} failed", brief(error), "Correct it, or call it by itself.") from error
    if number is None:
        raise BadInput(
            f"the objective {name!r} returned {value!r:.80}",
            "it must return one number, lower is better",
            "Correct it.",
        )
    return number


def check_on_outputs(name: str, logits: Tensor, labels: Labels) -> None:
    """Try a user's function on real outputs before a search.

    Raises:
        BadInput: as `measure`, or what it returns is not finite.
    """
    value = measure(name, logits, labels)
    if not math.isfinite(value):
        raise BadInput(
            f"the objective {name!r} is {value} for {len(labels)} images' outputs of shape {tuple(logits.shape)}",
            "a search can only compare finite numbers",
            "Correct it, or call it by itself.",
        )


def check_on_groups(name: str, labels: Labels, classes: int, groups: Labels) -> None:
    """Refuse groups that a measure of groups cannot compare, before a search.

    Args:
        labels: labels (n,) of the images.
        classes: the number of a network's outputs.
        groups: the group (n,) of each image.

    Raises:
        BadInput: as the measure.
    """
    measure(name, F.one_hot(labels, classes).float(), labels, groups)


def sign_remark(name: str, labels: Labels, classes: int) -> str:
    """A remark if a user's function is higher for right answers than for wrong ones, or ""; the search minimises it.

    Args:
        name: the function, as module:function.
        labels: labels (n,) of real images.
        classes: the number of a network's outputs.

    Raises:
        BadInput: as `measure`.
    """
    if classes < 2:
        return ""
    right = _CONFIDENT * F.one_hot(labels, classes).float()
    wrong = _CONFIDENT * F.one_hot((labels + 1) % classes, classes).float()
    best, worst = (measure(name, logits, labels) for logits in (right, wrong))
    if best <= worst:
        return ""
    return (
        f"the objective {name} is {best:.4g} where all answers are right and {worst:.4g} where all are wrong; "
        "a search minimises it: return its negative if higher is better"
    )
