"""Episodes: a network is judged by how well a head that is fitted to some of its features does on the others.

The head is solved in closed form inside the loss, so that the gradient flows through it (R2-D2: Bertinetto et al.,
Meta-learning with differentiable closed-form solvers, arXiv 1805.08136). It starts at the features of phrases for the classes, as
`popgen.fitness.heads.fit_phrase_head` does, with its penalty and step fixed.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from popgen.types import Labels

_PENALTY = 0.1  # in units of the mean squared norm of a centred example
_STEP = 8.0  # factor of the regression on the residual


def phrase_losses(
    features: Float[Tensor, "n f"], labels: Labels, phrases: Float[Tensor, "c f"], temperature: float
) -> tuple[Tensor, Tensor]:
    """Cross-entropies of features under the phrases' head, and of the second half under a head fitted to the first half.

    Both are means in nats, and differentiable.

    >>> x, y = torch.eye(2).repeat(4, 1), torch.tensor([0, 1] * 4)
    >>> plain, fitted = phrase_losses(x, y, torch.zeros(2, 2), 20.0)
    >>> round(float(plain), 4), bool(fitted < 0.1)
    (0.6931, True)
    """
    logits = temperature * features @ phrases.T
    plain, half = F.cross_entropy(logits, labels), len(labels) // 2
    x, query = features[:half], features[half:]
    residual = F.one_hot(labels[:half], len(phrases)) - logits[:half].softmax(1)
    mean, offset = x.mean(0), residual.mean(0)
    x, query, residual = x - mean, query - mean, residual - offset
    gram = x @ x.T
    penalty = _PENALTY * gram.diagonal().mean()
    fitted = query @ x.T @ torch.linalg.solve(gram + penalty * torch.eye(half), residual) + offset
    return plain, F.cross_entropy(logits[half:] + _STEP * fitted, labels[half:])
