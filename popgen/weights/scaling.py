"""Weights as scaled differences from a reference, per architecture.

x = (w - reference) / scale, with one scale a tensor: the root mean square of the zoo's differences. Running variances of
batch norm enter as logarithms, so that whatever is decoded stays positive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.types import Flat

_SMALLEST_VARIANCE = 1e-10


@dataclass(frozen=True)
class Scaling:
    """Reference and scale of one architecture, both of shape (p,), and where logarithms are taken."""

    reference: Tensor
    scale: Tensor
    is_log: Tensor  # bool

    @classmethod
    def fit(
        cls, spec: ArchSpec, weights: Flat | Callable[[], Iterable[Flat]], reference: Tensor | None = None
    ) -> Scaling:
        """Scales from checkpoints; without a `reference` (p,) their mean is taken.

        A tensor that hardly differs from the reference gets the scale 1e-4, so that it stays put.

        Args:
            weights: a matrix (n, p), or a function that gives its rows in chunks, again whenever it is called.
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
        scales = (squares / (rows * torch.tensor(sizes))).sqrt().float().clamp_min(1e-4)
        return cls(centre, scales.repeat_interleave(torch.tensor(sizes)), is_log)

    @classmethod
    def of(cls, spec: ArchSpec, reference: Tensor, scale: Tensor) -> Scaling:
        """From weights (p,) that differences are taken from and scales (p,), as a zoo keeps them."""
        is_log = _is_log(spec)
        return cls(_logs(reference[None], is_log)[0], scale, is_log)

    @classmethod
    def stored(cls, spec: ArchSpec, reference: Tensor, scale: Tensor) -> Scaling:
        """From its own tensors (p,)."""
        return cls(reference, scale, _is_log(spec))

    def to(self, device: str) -> Scaling:
        """The same on another device."""
        return Scaling(self.reference.to(device), self.scale.to(device), self.is_log.to(device))

    def normalise(self, weights: Flat) -> Flat:
        """Weights to x."""
        return (_logs(weights, self.is_log) - self.reference) / self.scale

    def denormalise(self, x: Flat) -> Flat:
        """x to weights; differentiable."""
        values = x * self.scale + self.reference
        return torch.where(self.is_log, values.clamp(-20, 20).exp(), values)


def _is_log(spec: ArchSpec) -> Tensor:
    return torch.cat([torch.full((t.size,), t.kind == "norm_var") for t in spec.tensors])


def _logs(weights: Flat, is_log: Tensor) -> Flat:
    return torch.where(is_log, weights.clamp_min(_SMALLEST_VARIANCE).log(), weights)
