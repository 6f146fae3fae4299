"""Two priors that need no training, as rivals of the trained one: latents from the zoo's codes and their data sets' embeddings.

ridge: ridge regression from the embedding to the latent, with the residuals' spread around it. kde: the kernel density sampler of
hyper-representations (Schürholt et al., arXiv 2209.14733, S_KDE30: every coordinate independently, from the codes of the
best 30 % of the checkpoints), its codes weighted by how close their data sets are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from sklearn.linear_model import RidgeCV
from torch import Tensor

from popgen.types import Latents

_WIDTH = 1 / 3  # of the kernel over data sets, in distances to the nearest: 1 mixes them (.56 on known ones, this .96)
_BEST = 0.3  # share of an architecture's checkpoints that a density is made of


@dataclass(frozen=True)
class CodeTable:
    """The codes of one architecture: latents (n, k, d), embeddings (n, out) of their data sets, validation accuracies (n,)."""

    codes: Latents
    embeddings: Tensor
    accuracies: Tensor

    def ridge(self, data: Tensor, noise: Latents) -> Latents:
        """Latents for embeddings `data` (n, out); `noise` standard normal, (n, k, d). Penalty by leave-one-out."""
        x, y = self.embeddings.double().numpy(), self.codes.flatten(1).double().numpy()
        model = RidgeCV(alphas=[10.0**k for k in range(-3, 5)]).fit(x, y)
        left = torch.from_numpy(y - model.predict(x)).float()
        mean = torch.from_numpy(model.predict(data.double().numpy())).float()
        return (mean + left.std(0) * noise.flatten(1)).view_as(noise)

    def kde(self, data: Tensor, noise: Latents, generator: torch.Generator) -> Latents:
        """Latents for embeddings `data` (n, out); bandwidths by Scott's rule, `generator` chooses codes."""
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
        """The best checkpoints of each data set, so that no data set is without one."""
        names = [tuple(row) for row in self.embeddings.tolist()]
        kept: list[int] = []
        for name in dict.fromkeys(names):
            rows = [i for i, other in enumerate(names) if other == name]
            rows.sort(key=lambda i: -float(self.accuracies[i]))
            kept += rows[: math.ceil(_BEST * len(rows))]
        return torch.tensor(sorted(kept))


def _nearest_distance(embeddings: Tensor) -> Tensor:
    """Median distance from a data set to the nearest other one."""
    distinct = embeddings.unique(dim=0)
    if len(distinct) < 2:
        return torch.tensor(1.0)
    distance = torch.cdist(distinct, distinct) + torch.diag(torch.full((len(distinct),), math.inf))
    return distance.min(1).values.median()
