"""Closed-form priors, which need no training: rivals of the trained prior that use the codes of the zoo's checkpoints.

`ridge` is a ridge regression from embedding to latent, with normal noise of the residuals' standard deviation. `kde` is
the kernel density sampler of hyper-representations (Schürholt et al., arXiv 2209.14733, S_KDE30: each coordinate is
sampled independently from the codes of the best 30 % of the checkpoints); its codes are weighted by the closeness of
their data sets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from popgen.types import Latents

# Width of the kernel over data sets, in units of the distance between neighbouring ones. A width of 1 mixes codes of
# several data sets: networks for training data sets then reached an accuracy of 0.56 instead of 0.96.
_WIDTH = 1 / 3
_ROWS = 2048  # embeddings that are compared with all others at a time
_BEST = 0.3  # share of each data set's checkpoints, best first, whose codes `kde` uses


@dataclass(frozen=True)
class CodeTable:
    """The codes of one architecture's training checkpoints."""

    codes: Latents  # (n, k, d), standardised latents
    embeddings: Tensor  # (n, out), embeddings of their data sets
    scores: Tensor  # (n,), their validation scores, -inf where none is known

    def ridge(self, data: Tensor, noise: Latents) -> Latents:
        """Return latents (n, k, d) for embeddings `data` (n, out) and standard normal `noise` (n, k, d).

        The penalty of the regression is chosen by leave-one-out cross-validation.
        """
        from sklearn.linear_model import RidgeCV  # noqa: PLC0415 - it takes a second, and the other priors need none

        x, y = self.embeddings.double().numpy(), self.codes.flatten(1).double().numpy()
        model = RidgeCV(alphas=[10.0**k for k in range(-3, 5)]).fit(x, y)
        residuals = torch.from_numpy(y - model.predict(x)).float()
        mean = torch.from_numpy(model.predict(data.double().numpy())).float()
        return (mean + residuals.std(0) * noise.flatten(1)).view_as(noise)

    def kde(self, data: Tensor, noise: Latents, generator: torch.Generator) -> Latents:
        """Return latents (n, k, d) for embeddings `data` (n, out) and standard normal `noise` (n, k, d).

        Bandwidths follow Scott's rule; `generator` draws the code of each coordinate.
        """
        kept = self._best()
        codes, embeddings = self.codes.flatten(1)[kept], self.embeddings[kept]
        distance = torch.cdist(data, embeddings)
        width = _WIDTH * _nearest_distance(embeddings)
        weights = torch.softmax(-distance.square() / (2 * width**2), dim=1)  # (n, codes)
        coordinates = codes.shape[1]
        chosen = torch.multinomial(weights, coordinates, replacement=True, generator=generator)  # (n, coordinates)
        mean = weights @ codes
        spread = (weights @ codes.square() - mean.square()).clamp_min(0).sqrt()
        scott = weights.square().sum(1, keepdim=True) ** 0.2  # effective number of codes, to the power -1/5
        z = codes[chosen, torch.arange(coordinates)] + scott * spread * noise.flatten(1)
        return z.view_as(noise)

    def _best(self) -> Tensor:
        """Return the indices of the best checkpoints of each data set, at least one for each."""
        scores = self.scores.tolist()
        rows_of: dict[tuple[float, ...], list[int]] = {}
        for i, row in enumerate(self.embeddings.tolist()):
            rows_of.setdefault(tuple(row), []).append(i)
        kept: list[int] = []
        for rows in rows_of.values():
            rows.sort(key=lambda i: -scores[i])
            kept += rows[: math.ceil(_BEST * len(rows))]
        return torch.tensor(sorted(kept))


def _nearest_distance(embeddings: Tensor) -> Tensor:
    """Return the median distance from a data set to its nearest neighbour; 1 if there is a single data set."""
    distinct = embeddings.unique(dim=0)
    if len(distinct) < 2:
        return torch.tensor(1.0)
    nearest = []
    for first in range(0, len(distinct), _ROWS):
        distance = torch.cdist(distinct[first : first + _ROWS], distinct)
        own = torch.arange(len(distance))
        distance[own, first + own] = math.inf
        nearest.append(distance.min(1).values)
    return torch.cat(nearest).median()
