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


def channel_counts(spec: ArchSpec) -> Tensor:
    """How many values each scale belongs to (scales,): those of an output channel, or of a vector."""
    counts = []
    for tensor in spec.tensors:
        channels = tensor.shape[0] if len(tensor.shape) > 1 else 1
        counts += [tensor.size // channels] * channels
    return torch.tensor(counts)


def quantise(spec: ArchSpec, weights: Flat, networks: bool = True) -> Quantised:
    """Quantise networks (n, p) of one architecture, or, where they are no `networks`, other rows of that shape, whose variances may have
    any sign.

    >>> spec = ArchSpec.from_config("mlp-s")
    >>> weights = torch.randn(3, spec.size, generator=torch.Generator().manual_seed(0))
    >>> bool((quantise(spec, weights).weights() - weights).abs().max() < 0.03)
    True
    """
    count = channel_counts(spec)
    variance = [torch.full((tensor.size,), tensor.kind == "norm_var") for tensor in spec.tensors]
    peaks = torch.stack([part.abs().amax(1) for part in weights.split(count.tolist(), dim=1)], dim=1)
    scales = torch.where(peaks > 0, peaks / 127, torch.ones_like(peaks))
    values = (weights / scales.repeat_interleave(count, dim=1)).round().clamp(-127, 127)
    if networks:
        values = torch.where(torch.cat(variance), values.clamp_min(1), values)
    return Quantised(values.to(torch.int8), scales, count)
