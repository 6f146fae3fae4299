"""A low-rank model of reconstruction errors: a few components for each architecture.

A stored checkpoint has a latent, which is what is sampled and searched, and in addition a residual code: the coordinates
of its reconstruction error on these components. With both, a retrieved network is closer to the original. The components
start at the principal components of the errors, and are then trained on what the restored networks do
(popgen/generator/training/stages/restoring.py).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popgen.types import Flat


class Residual(nn.Module):
    """Components `basis` (r, p) of normalised weights, and `read` (r, p), whose rows map an error to its coordinates.

    An architecture with few checkpoints has fewer components than others; codes have the length `width` for all.
    """

    def __init__(self, rank: int, size: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.read = nn.Parameter(torch.zeros(rank, size))
        self.basis = nn.Parameter(torch.zeros(rank, size))

    @torch.no_grad()
    def fit(self, errors: Flat) -> None:
        """Set both to the principal components of `errors` (n, p); if n is below r, the others are zero."""
        rank = min(len(self.basis), *errors.shape)
        found = torch.zeros_like(self.basis)
        if rank:
            found[:rank] = torch.linalg.svd(errors, full_matrices=False).Vh[:rank]
        self.basis.copy_(found)
        self.read.copy_(found)

    def code(self, errors: Flat) -> Tensor:
        """Return the coordinates (n, width) of errors (n, p), padded with zeros."""
        return F.pad(errors @ self.read.T, (0, self.width - len(self.read)))

    def forward(self, code: Tensor) -> Flat:
        """Return what is added to decoded normalised weights, (n, p)."""
        return code[:, : len(self.basis)] @ self.basis
