"""What the decoder leaves of the zoo's checkpoints, as a few components an architecture.

The latent is what networks share and what is searched; a stored checkpoint has a few numbers more, its coordinates on these components,
so that retrieval is closer to the original than the latent alone. Nothing is sampled or searched here. The components start as the
principal ones of what is left, and are then trained on what the restored networks do (popgen/generator/training/residual.py).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popgen.types import Flat


class Residual(nn.Module):
    """Components `basis` (r, p) of normalised weights, and the rows `read` (r, p) that coordinates are read with.

    An architecture with few checkpoints has fewer components than others; codes have the same length for all, `width`.
    """

    def __init__(self, rank: int, size: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.read = nn.Parameter(torch.zeros(rank, size))
        self.basis = nn.Parameter(torch.zeros(rank, size))

    @torch.no_grad()
    def fit(self, left: Flat) -> None:
        """Set both to the principal components of `left` (n, p); where n is smaller than r the others stay zero."""
        rank = min(len(self.basis), *left.shape)
        found = torch.zeros_like(self.basis)
        if rank:
            found[:rank] = torch.linalg.svd(left, full_matrices=False).Vh[:rank]
        self.basis.copy_(found)
        self.read.copy_(found)

    def code(self, left: Flat) -> Tensor:
        """Coordinates (n, width) of what is left (n, p), zeros where there are fewer components."""
        return F.pad(left @ self.read.T, (0, self.width - len(self.read)))

    def forward(self, code: Tensor) -> Flat:
        """What is to be added to decoded weights (n, p)."""
        return code[:, : len(self.basis)] @ self.basis
