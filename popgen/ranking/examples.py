"""The labelled examples that checkpoints are ranked on: validation examples first, in an order whose every start has all classes."""

from __future__ import annotations

import torch
from torch import Tensor

from popgen.data import DataSet, Part
from popgen.types import Labels


def ranking_examples(data: DataSet, most: int, seed: int) -> Part:
    """At most `most` examples: those of validation, then those of training where validation has fewer.

    Training examples come last because checkpoints may have been trained on them. The test split is never used.
    """
    parts = [data.val] if data.is_left_out else [data.val, data.train]
    inputs, targets, wanted = [], [], most
    for part in parts:
        drawn = part.take(balanced_order(part.targets, seed)[:wanted])
        inputs.append(drawn.inputs)
        targets.append(drawn.targets)
        wanted -= len(drawn)
        if not wanted:
            break
    return Part(torch.cat(inputs), torch.cat(targets))


def balanced_order(targets: Labels, seed: int) -> Tensor:
    """A drawn order of the examples whose every start has the classes about in their proportions; drawn freely where targets are no classes.

    >>> labels = torch.tensor([0] * 50 + [1] * 50)
    >>> labels[balanced_order(labels, 0)[:10]].sum()
    tensor(5)
    """
    drawn = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    if targets.dim() > 1:
        return drawn
    labels = targets[drawn]
    rank = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        index = (labels == label).nonzero()[:, 0]
        rank[index] = (torch.arange(len(index), dtype=torch.float64) + 0.5) / len(index)
    return drawn[rank.argsort(stable=True)]
