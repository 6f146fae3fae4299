"""Normalised weights of an architecture: scaled differences from a reference.

x = (w - reference) / scale, with one scale for each tensor: the root mean square of the zoo's differences. Logarithms are
taken of batch norm's running variances, so that decoded ones are positive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.types import Flat

_SMALLEST_VARIANCE = 1e-10  # lower bound of running variances before logarithms are taken
_SMALLEST_SCALE = 1e-4  # lower bound of scales: tensors that hardly differ from the reference hardly change


@dataclass(frozen=True)
class Scaling:
    """Reference and scale of one architecture."""

    reference: Tensor  # (p,), with logarithms where `is_log`
    scale: Tensor  # (p,), equal within a tensor
    is_log: Tensor  # (p,), True for running variances, of which logarithms are taken

    @classmethod
    def fit(
        cls, spec: ArchSpec, weights: Flat | Callable[[], Iterable[Flat]], reference: Tensor | None = None
    ) -> Scaling:
        """Compute the scales from checkpoints.

        Args:
            weights: a matrix (n, p), or a function that returns its rows in chunks each time it is called.
            reference: weights (p,); None: the mean of the checkpoints.
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
            differences = (_logs(chunk, is_log) - centre).split(sizes, dim=1)
            squares += torch.stack([of_tensor.double().square().sum() for of_tensor in differences])
            rows += len(chunk)
        scales = (squares / (rows * torch.tensor(sizes))).sqrt().float().clamp_min(_SMALLEST_SCALE)
        return cls(centre, scales.repeat_interleave(torch.tensor(sizes)), is_log)

    @classmethod
    def of(cls, spec: ArchSpec, reference: Tensor, scale: Tensor) -> Scaling:
        """Make a scaling from the reference (p,), as weights, and scales (p,), as a zoo stores them."""
        is_log = _is_log(spec)
        return cls(_logs(reference[None], is_log)[0], scale, is_log)

    @classmethod
    def stored(cls, spec: ArchSpec, reference: Tensor, scale: Tensor) -> Scaling:
        """Make a scaling from its own tensors (p,), as a generator stores them."""
        return cls(reference, scale, _is_log(spec))

    def to(self, device: str) -> Scaling:
        """Return a copy on another device."""
        return Scaling(self.reference.to(device), self.scale.to(device), self.is_log.to(device))

    def normalise(self, weights: Flat) -> Flat:
        """Return the normalised weights x (n, p)."""
        return (_logs(weights, self.is_log) - self.reference) / self.scale

    def denormalise(self, x: Flat) -> Flat:
        """Return the weights (n, p) of normalised weights x; this is differentiable."""
        values = x * self.scale + self.reference
        return torch.where(self.is_log, values.clamp(-20, 20).exp(), values)


def _is_log(spec: ArchSpec) -> Tensor:
    return torch.cat([torch.full((t.size,), t.kind == "norm_var") for t in spec.tensors])


def _logs(weights: Flat, is_log: Tensor) -> Flat:
    return torch.where(is_log, weights.clamp_min(_SMALLEST_VARIANCE).log(), weights)
