"""Measures of the difference that a classifier makes between groups, 0 to 1, as Hardt et al. define them (arXiv 1610.02413).

Each is a difference of rates: the share of the images that are given a class, among all images of a group, among its images of that class,
or among its images of other classes. It is taken one class versus the rest, from the group with the highest rate to the one with the lowest, and the
largest over the classes counts. For two groups and two classes, of which the second is the favourable outcome, these are the differences
of the literature.

A group that has no image to take a rate over (none of a class, for instance) has no part in the difference of that rate. A rate that
fewer than two groups have is left out; where no rate is left, the measure is refused.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from popgen.errors import BadInput
from popgen.types import Labels


def demographic_parity(logits: Tensor, _labels: Labels, groups: Labels) -> float:
    """The largest difference between groups (n,) in how often a class is answered; labels do not count.

    Raises:
        BadInput: the images are of one group.

    >>> demographic_parity(torch.eye(2)[[0, 1, 1, 1]], torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1]))
    0.5
    """
    answers = _one_hot(logits.argmax(1), logits)
    return _largest_difference([_rates(answers, torch.ones_like(answers), groups)], "demographic_parity")


def equal_opportunity(logits: Tensor, labels: Labels, groups: Labels) -> float:
    """The largest difference between groups (n,) in the share of a class's images that are recognised.

    Two classes are an outcome and its absence, and only the second counts, as in the literature. Of several classes each counts.

    Raises:
        BadInput: no class has images in two groups.

    >>> equal_opportunity(torch.eye(2)[[0, 1, 1, 1]], torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1]))
    0.0
    """
    answers, truth = _one_hot(logits.argmax(1), logits), _one_hot(labels, logits)
    rates = _rates(answers, truth, groups)
    return _largest_difference([rates[:, 1:] if rates.shape[1] == 2 else rates], "equal_opportunity")


def equalised_odds(logits: Tensor, labels: Labels, groups: Labels) -> float:
    """The largest difference between groups (n,) in a class's rate of true or of false positives.

    Raises:
        BadInput: no class has images in two groups, nor has its rest.

    >>> equalised_odds(torch.eye(2)[[0, 1, 1, 1]], torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1]))
    1.0
    """
    answers, truth = _one_hot(logits.argmax(1), logits), _one_hot(labels, logits)
    rates = [_rates(answers, truth, groups), _rates(answers, ~truth, groups)]
    return _largest_difference(rates, "equalised_odds")


def _one_hot(labels: Labels, logits: Tensor) -> Tensor:
    """Whether each image (n,) has each of the classes (n, classes)."""
    return F.one_hot(labels, logits.shape[1]).bool()


def _rates(answers: Tensor, among: Tensor, groups: Labels) -> Tensor:
    """For each group and class, the share of the images of `among` that are answered so; NaN where there are none."""
    counts = [
        torch.zeros(int(groups.max()) + 1, answers.shape[1], dtype=torch.double, device=answers.device).index_add(
            0, groups, chosen.double()
        )
        for chosen in (answers & among, among)
    ]
    return counts[0] / counts[1]


def _largest_difference(rates: list[Tensor], name: str) -> float:
    """The largest difference in a column of the tables of rates (groups, classes), among the groups that have the rate."""
    table = torch.cat(rates, dim=1)
    known = ~table.isnan()
    compared = known.sum(0) >= 2
    if not compared.any():
        raise BadInput(
            f"{name} compares groups, and these images do not allow it",
            f"they are of {int(known.any(1).sum())} group(s) with images of the classes that count, and no rate is known in two of them",
            "Give groups that share classes.",
        )
    differences = table.masked_fill(~known, -1.0).amax(0) - table.masked_fill(~known, 2.0).amin(0)
    return float(differences[compared].max())
