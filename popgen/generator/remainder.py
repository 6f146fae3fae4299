"""What the decoder leaves of the zoo's checkpoints, as a few principal components an architecture.

The latent is what networks share and what is searched; a stored checkpoint has a few numbers more, its coordinates on these components,
so that retrieval is closer to the original than the latent alone. Nothing is sampled or searched here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from popgen.types import Flat


class Remainder(nn.Module):
    """Orthonormal components (r, p) of normalised weights."""

    basis: Tensor

    def __init__(self, rank: int, size: int) -> None:
        super().__init__()
        self.register_buffer("basis", torch.zeros(rank, size))

    def fit(self, left: Flat) -> None:
        """Set the components to the principal ones of `left` (n, p); where n is smaller than r the others stay zero."""
        rank = min(len(self.basis), *left.shape)
        found = torch.zeros_like(self.basis)
        if rank:
            found[:rank] = torch.linalg.svd(left, full_matrices=False).Vh[:rank]
        self.basis = found

    def code(self, left: Flat) -> Tensor:
        """Coordinates (n, r) of what is left (n, p)."""
        return left @ self.basis.T

    def forward(self, code: Tensor) -> Flat:
        """What is to be added to decoded weights (n, p)."""
        return code @ self.basis
