"""The choice of the architecture that the next step trains."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_SMOOTHING = 0.05  # share of a new loss in an architecture's running mean, so that it covers about 20 steps
_LEAST_LOSS = 1e-3


class ArchSampler(nn.Module):
    """Draws architectures in proportion to the loss of their decoded networks.

    Batch norm and depth make some architectures several times harder than others: drawn equally often, they stay worse.
    """

    losses: Tensor  # (number of architectures,), running means

    def __init__(self, archs: list[str]) -> None:
        super().__init__()
        self.archs = archs
        self.register_buffer("losses", torch.ones(len(archs)))
        self._seen: list[Tensor] = []

    def draw(self) -> str:
        """Return an architecture's name."""
        weights = self.losses.clamp_min(_LEAST_LOSS)
        return self.archs[int(torch.multinomial(weights + weights.mean() / 4, 1))]

    def record(self, arch: str, loss: Tensor) -> None:
        """Record the loss (a scalar) of an architecture that was drawn."""
        index = torch.tensor(float(self.archs.index(arch)), device=loss.device)
        self._seen.append(torch.stack([index, loss.detach().float()]))

    def take_seen(self) -> list[Tensor]:
        """Return the architecture's index and the loss, (2,), of each record since the last call."""
        seen, self._seen = self._seen, []
        return seen

    def update(self, seen: Tensor) -> None:
        """Update the running means with the records (n, 2), in their order."""
        for index, loss in seen.tolist():
            self.losses[int(index)] += _SMOOTHING * (loss - self.losses[int(index)])
