"""k nearest neighbours: the share of examples whose nearest other examples have their class.

The distance is that of the cosine of features. Among 24 scores over 42,000 transfers this was the best on average
(Renggli et al., Which Model to Transfer?, CVPR 2022, use its relative, the nearest neighbour).
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from popgen.ranking.seen import Score, Seen, mean_score

_NEIGHBOURS = 5
_SHARPNESS = 10.0  # votes are weighted by exp(SHARPNESS * cosine), so that ties are rare


def knn(seen: Seen) -> Score:
    """Leave-one-out accuracy of the vote of the five nearest other examples, weighted by their similarity.

    >>> x = torch.eye(2).repeat(3, 1)
    >>> knn(Seen(x, x, torch.tensor([0, 1] * 3), 2)).value
    1.0
    """
    x = F.normalize(seen.features.float() - seen.features.float().mean(0), dim=1)
    similar = (x @ x.T).fill_diagonal_(-torch.inf)
    nearest, index = similar.topk(min(_NEIGHBOURS, max(len(x) - 1, 1)))
    votes = torch.zeros(len(x), seen.classes).scatter_add_(1, seen.targets[index], (_SHARPNESS * nearest).exp())
    return mean_score(votes.argmax(1) == seen.targets)
