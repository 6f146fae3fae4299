"""Weights as scaled differences from a reference, per architecture.

x = (w - reference) / scale, with one scale a tensor: the root mean square of the zoo's differences. Running variances of
batch norm enter as logarithms, so that whatever is decoded stays positive.
"""

from __future__ import annotations

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
    def fit(cls, spec: ArchSpec, weights: Flat, reference: Tensor | None = None) -> Scaling:
        """Scales from checkpoints `weights` (n, p); without a `reference` their mean is taken.

        A tensor that never differs from the reference gets the scale 1e-3 of its own magnitude, so that it stays put.
        """
        is_log = torch.cat([torch.full((t.size,), t.kind == "norm_var") for t in spec.tensors])
        values = _logs(weights, is_log)
        centre = values.mean(0) if reference is None else _logs(reference[None], is_log)[0]
        scales = []
        for part in (values - centre).split([t.size for t in spec.tensors], dim=1):
            scales.append(part.square().mean().sqrt().clamp_min(1e-4).expand(part.shape[1]))
        return cls(centre, torch.cat(scales).clone(), is_log)

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


def _logs(weights: Flat, is_log: Tensor) -> Flat:
    return torch.where(is_log, weights.clamp_min(_SMALLEST_VARIANCE).log(), weights)
