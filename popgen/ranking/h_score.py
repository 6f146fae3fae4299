"""H-score with shrinkage: how far the classes' means lie apart, in units of the features' covariance.

Bao et al., An information-theoretic approach to transferability (ICIP 2019); the covariance is shrunk as by Ledoit and
Wolf (Ibrahim et al., Newer is not always better, arXiv 2110.06893).
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from popgen.ranking.seen import Score, Seen, folds, jackknifed


def h_score(seen: Seen) -> Score:
    """The trace of the covariance's inverse times the covariance of the classes' means; at most the number of classes less 1."""

    def value(index: Tensor) -> float:
        return shrunk_h_score(seen.features[index].double().numpy(), seen.targets[index].numpy())

    return jackknifed(value(torch.arange(len(seen))), [value(kept) for kept in folds(len(seen))])


def shrunk_h_score(features: np.ndarray, targets: np.ndarray) -> float:
    """The H-score of features (n, f) with targets (n,).

    >>> x = np.repeat(np.eye(3), 40, 0) + np.random.default_rng(0).normal(0, 1e-3, (120, 3))
    >>> round(shrunk_h_score(x, np.repeat(np.arange(3), 40)), 1)
    2.0
    """
    x = features - features.mean(0)
    x = x[:, x.std(0) > 0]
    if not x.shape[1] or len(x) < 2:
        return 0.0
    covariance, shrinkage = ledoit_wolf(x, assume_centered=True)
    means = np.stack([x[targets == label].mean(0) for label in np.unique(targets)])
    counts = np.array([(targets == label).mean() for label in np.unique(targets)])
    between = (means * counts[:, None]).T @ means
    return float((1 - shrinkage) * np.trace(np.linalg.lstsq(covariance, between, rcond=None)[0]))
