"""Normalisation of weights as scaled differences from a reference, separately for each architecture.

x = (w - reference) / scale, where the scale of a tensor is the root mean square of the zoo's differences in it. Running
variances of batch norm are replaced by their logarithms, so that any decoded value gives a positive variance.

A tensor in which no network of the zoo differs from the reference, such as one that fine-tuning has frozen, has the scale 0. It has no
coordinates in x, and denormalised networks have the reference's values there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.types import Flat
from popgen.weights.in_place import InPlace

_SMALLEST_VARIANCE = 1e-10  # smaller variances are raised to this, so that logarithms are finite
_MAX_LOG = 20  # bound of decoded logarithms, in either direction, so that variances are finite and positive
_MIN_SCALE = 1e-4  # a tensor in which checkpoints hardly differ gets this scale, so that it hardly moves when decoded
_STATISTICS = ("norm_mean", "norm_var")


@dataclass(frozen=True)
class Scaling(InPlace):
    """Reference, scale and mask of logarithms of one architecture; q of its p values differ from the reference."""

    reference: Tensor  # (p,), with the logarithms of running variances
    scale: Tensor  # (p,), one value for each tensor; 0 where a tensor is always the reference's
    is_log: Tensor  # (p,), True where the logarithm of a value is taken

    @classmethod
    def fit(
        cls, spec: ArchSpec, weights: Flat | Callable[[], Iterable[Flat]], reference: Tensor | None = None
    ) -> Scaling:
        """Compute the scales from checkpoints, and the reference as their mean if none is given.

        The scale of a tensor that differs anywhere, and of running statistics, is at least 1e-4.

        Args:
            weights: a matrix (n, p), or a function that yields its rows in chunks, anew whenever it is called.
            reference: weights (p,) from which the differences are taken.
        """
        is_log = _is_log(spec)
        chunks = weights if callable(weights) else lambda: [weights]
        if reference is None:
            total, count = torch.zeros(spec.size, dtype=torch.float64), 0
            for chunk in chunks():
                total, count = total + _logs(chunk, is_log).double().sum(0), count + len(chunk)
            centre = (total / count).float()
        else:
            centre = _logs(reference[None], is_log)[0]
        squares, rows = torch.zeros(len(spec.tensors), dtype=torch.float64), 0
        sizes = [t.size for t in spec.tensors]
        for chunk in chunks():
            parts = (_logs(chunk, is_log) - centre).split(sizes, dim=1)
            squares += torch.stack([part.double().square().sum() for part in parts])
            rows += len(chunk)
        scales = (squares / (rows * torch.tensor(sizes))).sqrt().float().clamp_min(_MIN_SCALE)
        differs = squares > 0
        if bool(differs.any()):  # checkpoints that are all the reference say nothing about what is frozen
            statistics = torch.tensor([t.kind in _STATISTICS for t in spec.tensors])
            scales = torch.where(differs | statistics, scales, 0.0)
        return cls(centre, scales.repeat_interleave(torch.tensor(sizes)), is_log)

    @classmethod
    def of(cls, spec: ArchSpec, reference: Tensor, scale: Tensor) -> Scaling:
        """Make a scaling from reference weights (p,), not yet in logarithms, and scales (p,), as a zoo stores them."""
        is_log = _is_log(spec)
        return cls(_logs(reference[None], is_log)[0], scale, is_log)

    @classmethod
    def stored(cls, spec: ArchSpec, reference: Tensor, scale: Tensor) -> Scaling:
        """Make a scaling from a reference (p,), already in logarithms, and scales (p,), as a generator stores them."""
        return cls(reference, scale, _is_log(spec))

    def to(self, device: str) -> Scaling:
        """Return a copy on another device."""
        return Scaling(self.reference.to(device), self.scale.to(device), self.is_log.to(device))

    def moved(self, spec: ArchSpec) -> ArchSpec:
        """Return the architecture with only those tensors whose scale is not 0: x (n, q) are its values.

        >>> from torch import nn
        >>> spec = ArchSpec.from_module(nn.Linear(3, 2))
        >>> scaling = Scaling.fit(spec, torch.tensor([[1.0] * 6 + [0.0] * 2]), torch.zeros(8))
        >>> [tensor.name for tensor in scaling.moved(spec).tensors]
        ['weight']
        """
        first = [bool(values[0] > 0) for values in self.scale.split([t.size for t in spec.tensors])]
        return replace(spec, tensors=tuple(t for t, moves in zip(spec.tensors, first, strict=True) if moves))

    def of_all(self) -> Scaling:
        """Return the scaling in which every tensor has coordinates, for networks that are not of the zoo."""
        return Scaling(self.reference, self.scale.clamp_min(_MIN_SCALE), self.is_log)

    @cached_property
    def _index(self) -> Tensor | None:
        """Indices (q,) of the values that have coordinates; None where all have."""
        moves = self.scale > 0
        return None if bool(moves.all()) else moves.nonzero().flatten()

    def normalise(self, weights: Flat) -> Flat:
        """Convert weights (n, p) to normalised differences x (n, q)."""
        differences = _logs(weights, self.is_log) - self.reference
        if self._index is None:
            return differences / self.scale
        return differences[:, self._index] / self.scale[self._index]

    def denormalise(self, x: Flat) -> Flat:
        """Convert normalised differences x (n, q) to weights (n, p); differentiable."""
        if self._index is None:
            values = x * self.scale + self.reference
        else:
            moved = x * self.scale[self._index] + self.reference[self._index]
            values = self.reference.expand(len(x), -1).index_copy(1, self._index, moved)
        return torch.where(self.is_log, values.clamp(-_MAX_LOG, _MAX_LOG).exp(), values)


def _is_log(spec: ArchSpec) -> Tensor:
    """Return the mask (p,) of running variances."""
    return torch.cat([torch.full((t.size,), t.kind == "norm_var") for t in spec.tensors])


def _logs(weights: Flat, is_log: Tensor) -> Flat:
    """Return the weights (n, p) with the logarithms of running variances."""
    return torch.where(is_log, weights.clamp_min(_SMALLEST_VARIANCE).log(), weights)
