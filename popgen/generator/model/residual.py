"""A low-rank model of reconstruction errors: a few components for each architecture.

A stored checkpoint has a latent and a residual code, the coordinates of its reconstruction error on these components.
With both, a retrieved network is closer to the original than with the latent alone. Only latents are sampled and
searched. The components start as the principal components of the errors, and are then trained on the behaviour of the
restored networks (popgen/generator/training/stages/restoring.py).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popgen.types import Flat


class Residual(nn.Module):
    """Low-rank model of the reconstruction errors of one architecture, in normalised weights.

    Coordinates of an error are its products with the rows of `read` (r, p); the error is rebuilt from the rows of
    `basis` (r, p). The rank r is smaller for an architecture with few checkpoints, but all residual codes have the
    length `width`.
    """

    def __init__(self, rank: int, size: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.read = nn.Parameter(torch.zeros(rank, size))
        self.basis = nn.Parameter(torch.zeros(rank, size))

    @torch.no_grad()
    def fit(self, errors: Flat) -> None:
        """Set `basis` and `read` to the principal components of `errors` (n, p); rows beyond n are zero."""
        rank = min(len(self.basis), *errors.shape)
        found = torch.zeros_like(self.basis)
        if rank:
            found[:rank] = torch.linalg.svd(errors, full_matrices=False).Vh[:rank]
        self.basis.copy_(found)
        self.read.copy_(found)

    def code(self, errors: Flat) -> Tensor:
        """Return the residual codes (n, width) of errors (n, p), padded with zeros."""
        return F.pad(errors @ self.read.T, (0, self.width - len(self.read)))

    def forward(self, code: Tensor) -> Flat:
        """Return the errors (n, p) of residual codes (n, width); they are added to decoded normalised weights."""
        return code[:, : len(self.basis)] @ self.basis
