"""Normalised weights of many checkpoints of one architecture, kept in memory or read from the zoo's files on demand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from popgen.types import Flat
from popgen.weights import Scaling
from popgen.zoo.record import Checkpoint
from popgen.zoo.store import Zoo

CHUNK_BYTES = 64 * 2**20  # largest size of a chunk in memory


class WeightRows:
    """A matrix (n, p) on `device` whose row i has the normalised weights of `records[i]`.

    It is indexed by a list of row numbers or by a slice.

    Args:
        in_memory: whether the whole matrix is kept; otherwise rows are read from the files when they are indexed.
    """

    def __init__(
        self, zoo: Zoo, records: Sequence[Checkpoint], scaling: Scaling, in_memory: bool = True, device: str = "cpu"
    ) -> None:
        self._zoo, self._records, self._scaling, self._device = zoo, list(records), scaling, device
        self.size = len(scaling.reference)
        self._kept: Tensor | None = None
        if in_memory and records:
            self._kept = scaling.normalise(zoo.matrix(self._records).to(device))

    def __len__(self) -> int:
        return len(self._records)

    @property
    def in_memory(self) -> bool:
        return self._kept is not None or not self._records

    def __getitem__(self, rows: Sequence[int] | slice) -> Flat:
        chosen = range(len(self))[rows] if isinstance(rows, slice) else list(rows)
        if not len(chosen):
            return torch.zeros(0, self.size, device=self._device)
        if self._kept is not None:
            return self._kept[torch.tensor(list(chosen), device=self._device)]
        return self._scaling.normalise(self._zoo.matrix([self._records[i] for i in chosen]).to(self._device))

    def chunks(self) -> Iterator[Flat]:
        """Yield all rows in their order, at most CHUNK_BYTES at a time."""
        step = max(1, CHUNK_BYTES // (4 * self.size))
        for first in range(0, len(self), step):
            yield self[first : first + step]

    def mean(self) -> Tensor:
        """Return the mean of all rows (p,)."""
        total = torch.zeros(self.size, dtype=torch.float64, device=self._device)
        for chunk in self.chunks():
            total += chunk.double().sum(0)
        return (total / len(self)).float()
