"""Ridge regression: leave-one-out accuracy of a head that is fitted in closed form; see popgen/fitness/heads.py."""

from __future__ import annotations

from popgen.fitness.heads import fit_ridge_head
from popgen.fitness.loss import classification_loss
from popgen.ranking.seen import Score, Seen, mean_score


def ridge(seen: Seen) -> Score:
    """The leave-one-out accuracy; checkpoints are ordered by the leave-one-out loss, which is less noisy.

    >>> import torch
    >>> x = torch.eye(2).repeat(6, 1)
    >>> ridge(Seen(x, x, torch.tensor([0, 1] * 6), 2)).value
    1.0
    """
    left_out = fit_ridge_head(seen.features, seen.targets, seen.classes).left_out
    return mean_score(left_out.argmax(1) == seen.targets, -classification_loss(left_out, seen.targets))
