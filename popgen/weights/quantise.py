"""Weights of many networks of one architecture as int8: what any zoo can be shrunk to without a generator.

Symmetric, round to nearest: one scale for each output channel of a weight matrix or kernel, one for each vector (the usual
post-training scheme: Krishnamoorthi, arXiv 1806.08342). Running variances of batch norm are rounded up to one step at
least, so that they stay positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import zstandard
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.types import Flat

_LEVEL = 19  # of zstd: the slowest below its --ultra levels


@dataclass(frozen=True)
class Quantised:
    """Networks (n, p) as whole numbers -127 to 127 and their scales (n, scales)."""

    values: Tensor  # int8, (n, p)
    scales: Tensor  # float32, (n, one a channel or vector)
    counts: Tensor  # (scales,), how many values each scale belongs to

    def weights(self) -> Flat:
        """The networks (n, p), dequantised."""
        return self.values.float() * self.scales.repeat_interleave(self.counts, dim=1)

    def compressed(self) -> int:
        """Bytes of values and scales, each matrix compressed with zstd as one."""
        packer = zstandard.ZstdCompressor(level=_LEVEL)
        return sum(len(packer.compress(part.contiguous().numpy().tobytes())) for part in (self.values, self.scales))


def quantise(spec: ArchSpec, weights: Flat) -> Quantised:
    """Quantise networks (n, p) of one architecture.

    >>> spec = ArchSpec.from_config("mlp-s")
    >>> weights = torch.randn(3, spec.size, generator=torch.Generator().manual_seed(0))
    >>> bool((quantise(spec, weights).weights() - weights).abs().max() < 0.03)
    True
    """
    counts, variance = [], []
    for tensor in spec.tensors:
        channels = tensor.shape[0] if len(tensor.shape) > 1 else 1
        counts += [tensor.size // channels] * channels
        variance.append(torch.full((tensor.size,), tensor.kind == "norm_var"))
    peaks = torch.stack([part.abs().amax(1) for part in weights.split(counts, dim=1)], dim=1)
    scales = torch.where(peaks > 0, peaks / 127, torch.ones_like(peaks))
    count = torch.tensor(counts)
    values = (weights / scales.repeat_interleave(count, dim=1)).round().clamp(-127, 127)
    values = torch.where(torch.cat(variance), values.clamp_min(1), values)
    return Quantised(values.to(torch.int8), scales, count)
