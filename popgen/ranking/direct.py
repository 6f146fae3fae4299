"""Direct validation: the accuracy of the network as it is, its outputs taken for the data set's classes by name."""

from __future__ import annotations

import torch

from popgen.fitness.loss import classification_loss
from popgen.ranking.seen import Score, Seen, mean_score
from popgen.tasks import CLASSIFICATION, get_task


def direct(seen: Seen) -> Score:
    """The accuracy; checkpoints are ordered by the search's loss, which is less noisy on few examples.

    For tasks other than classification it is the mean of the task's loss, with a minus.

    >>> logits = torch.tensor([[0.0, 9.0, 0.0], [0.0, 0.0, 9.0], [0.0, 0.0, 9.0]])
    >>> direct(Seen(logits, logits, torch.tensor([0, 1, 0]), 2, (1, 2))).value
    0.6666666666666666
    """
    if seen.task != CLASSIFICATION:
        task = get_task(seen.task)
        losses = [float(task.loss(seen.outputs[i : i + 1], seen.targets[i : i + 1])) for i in range(len(seen))]
        return mean_score(-torch.tensor(losses))
    assert seen.rows is not None, "the caller uses this method only where the names of classes match"
    logits = seen.outputs[:, list(seen.rows)]
    return mean_score(logits.argmax(1) == seen.targets, -classification_loss(logits, seen.targets))
