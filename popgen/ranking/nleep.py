"""N-LEEP: LEEP with the components of a Gaussian mixture in the place of outputs (Li et al., CVPR 2021, arXiv 2011.11200).

The mixture is fitted to the principal components that hold 80 % of the features' variance. It has as many components as
the paper's, five for each class, where there are twelve examples for each, and fewer where not.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from popgen.ranking.leep import expected_log_predictions
from popgen.ranking.seen import Score, Seen, mean_score

_KEPT = 0.8  # share of the variance
_OF_CLASS = 5  # components for each class
_EXAMPLES = 12  # least number of examples for each component, with a variance for each of its dimensions


def nleep(seen: Seen) -> Score:
    """The mean logarithm of the expected prediction, in nats.

    >>> x = torch.cat([torch.randn(60, 3, generator=torch.Generator().manual_seed(0)) + 20 * k for k in range(2)])
    >>> bool(nleep(Seen(x, x, torch.arange(2).repeat_interleave(60), 2)).value > -1e-6)
    True
    """
    x = seen.features.double()
    x = x - x.mean(0)
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    if not float(s[0]) > 0:  # all features are equal, or not numbers
        return mean_score(expected_log_predictions(torch.ones(len(x), 1), seen.targets, seen.classes))
    kept = 1 + int(((s.square().cumsum(0) / s.square().sum()) < _KEPT).sum())
    reduced = (u * s)[:, :kept].numpy() / float(s[0]) * np.sqrt(len(x))
    count = max(min(_OF_CLASS * seen.classes, len(x) // _EXAMPLES), min(2, len(x)))
    mixture = GaussianMixture(count, covariance_type="diag", reg_covar=1e-4, max_iter=50, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        shares = torch.from_numpy(mixture.fit(reduced).predict_proba(reduced))
    return mean_score(expected_log_predictions(shares, seen.targets, seen.classes))
