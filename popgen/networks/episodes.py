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


def ridge_loss(
    features: Float[Tensor, "n f"], labels: Labels, support: int, classes: int, penalty: Tensor, scale: Tensor
) -> Tensor:
    """Cross-entropy of the examples behind the first `support`, under a ridge head that is fitted to these; differentiable.

    Args:
        features, labels: those of the support, then those of the queries; a label is a class index.
        penalty: of the squared weights, in units of the mean squared length of a centred feature over the support; above 0.
        scale: factor of the regression's scores, which makes them logits.

    >>> x, y = torch.eye(3).repeat(4, 1), torch.arange(3).repeat(4)
    >>> round(float(ridge_loss(x, y, 6, 3, torch.tensor(1e-3), torch.tensor(8.0))), 3)
    0.001
    """
    x, y = features[:support].float(), F.one_hot(labels[:support], classes).float()
    mean, offset = x.mean(0), y.mean(0)
    x, y = x - mean, y - offset
    gram = x.T @ x
    penalties = penalty * gram.diagonal().mean() * torch.eye(len(gram), device=gram.device)
    weight = torch.linalg.solve(gram + penalties, x.T @ y)
    scores = (features[support:].float() - mean) @ weight + offset
    return F.cross_entropy(scale * scores, labels[support:])
