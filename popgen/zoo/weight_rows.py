"""Normalised weights of many checkpoints of one architecture: in memory, or read from the zoo's files whenever they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from popgen.types import Flat
from popgen.weights import Scaling
from popgen.zoo.record import Checkpoint
from popgen.zoo.store import Zoo

CHUNK_BYTES = 64 * 2**20


class WeightRows:
    """A matrix (n, p) whose row i is x of `records[i]`; indexed by a list of rows or a slice, on `device`.

    Args:
        in_memory: whether the matrix is kept; else what is asked for is read, in order of its place in the files.
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
        """All rows in order, at most CHUNK_BYTES at a time."""
        step = max(1, CHUNK_BYTES // (4 * self.size))
        for first in range(0, len(self), step):
            yield self[first : first + step]

    def mean(self) -> Tensor:
        """The mean row (p,)."""
        total = torch.zeros(self.size, dtype=torch.float64, device=self._device)
        for chunk in self.chunks():
            total += chunk.double().sum(0)
        return (total / len(self)).float()
