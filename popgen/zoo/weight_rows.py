"""Normalised weights of many checkpoints of one architecture, kept in memory or read from files on each access."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from popgen.types import Flat
from popgen.weights import Scaling
from popgen.zoo.record import Checkpoint
from popgen.zoo.store import Zoo

CHUNK_BYTES = 64 * 2**20  # Size of the pieces in which a matrix that may not fit into memory is read.


class WeightRows:
    """A matrix (n, q) whose row i holds the normalised weights of `records[i]`; takes lists of indices and slices.

    Args:
        in_memory: whether the whole matrix is kept on `device`; otherwise rows are read from the files on each access.
        device: torch device of the rows that are returned.
    """

    def __init__(
        self, zoo: Zoo, records: Sequence[Checkpoint], scaling: Scaling, in_memory: bool = True, device: str = "cpu"
    ) -> None:
        self._zoo, self._records, self._scaling, self._device = zoo, list(records), scaling, device
        self.size = int((scaling.scale > 0).sum())
        self._matrix: Tensor | None = None
        if in_memory and records:
            self._matrix = scaling.normalise(zoo.matrix(self._records).to(device))

    def __len__(self) -> int:
        return len(self._records)

    @property
    def in_memory(self) -> bool:
        """Whether no access reads from the files."""
        return self._matrix is not None or not self._records

    def __getitem__(self, indices: Sequence[int] | slice) -> Flat:
        """The rows at `indices`, in that order."""
        indices = list(range(len(self))[indices]) if isinstance(indices, slice) else list(indices)
        if not indices:
            return torch.zeros(0, self.size, device=self._device)
        if self._matrix is not None:
            return self._matrix[torch.tensor(indices, device=self._device)]
        return self._scaling.normalise(self._zoo.matrix([self._records[i] for i in indices]).to(self._device))

    def chunks(self) -> Iterator[Flat]:
        """Yield all rows in order, in chunks of at most CHUNK_BYTES."""
        step = max(1, CHUNK_BYTES // (4 * self.size))
        for first in range(0, len(self), step):
            yield self[first : first + step]

    def mean(self) -> Tensor:
        """The mean of all rows; shape (q,)."""
        total = torch.zeros(self.size, dtype=torch.float64, device=self._device)
        for chunk in self.chunks():
            total += chunk.double().sum(0)
        return (total / len(self)).float()
