"""Quantisation of many networks of one architecture to int8, the compression that any zoo allows without a generator.

Quantisation is symmetric and rounds to the nearest step, with one scale for each output channel of a weight matrix or
kernel and one for each vector (the usual post-training scheme: Krishnamoorthi, arXiv 1806.08342). Running variances of
batch norm are at least one step, so that they stay positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import zstandard
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.types import Flat

_ZSTD_LEVEL = 19  # the strongest and slowest level of zstd below its --ultra levels


@dataclass(frozen=True)
class Quantised:
    """Networks (n, p) as integers from -127 to 127 and their scales (n, s), where s counts the channels and vectors."""

    values: Tensor  # int8, (n, p)
    scales: Tensor  # float32, (n, s)
    counts: Tensor  # (s,), number of values that share each scale

    def weights(self) -> Flat:
        """Return the dequantised networks (n, p)."""
        return self.values.float() * self.scales.repeat_interleave(self.counts, dim=1)

    def compressed_bytes(self) -> int:
        """Return the total size in bytes of values and scales, compressed with zstd as one block each."""
        packer = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
        return sum(len(packer.compress(part.contiguous().numpy().tobytes())) for part in (self.values, self.scales))


def channel_counts(spec: ArchSpec) -> Tensor:
    """Return the number of values (s,) that share each scale: the values of one output channel, or of one vector."""
    counts = []
    for tensor in spec.tensors:
        channels = tensor.shape[0] if len(tensor.shape) > 1 else 1
        counts += [tensor.size // channels] * channels
    return torch.tensor(counts)


def quantise(spec: ArchSpec, weights: Flat, positive_variances: bool = True) -> Quantised:
    """Quantise networks (n, p) of one architecture.

    Args:
        positive_variances: whether running variances are kept positive. False is for rows that are no networks, such
            as the basis of a linear decoder, whose entries may have any sign.

    >>> spec = ArchSpec.from_config("mlp-s")
    >>> weights = torch.randn(3, spec.size, generator=torch.Generator().manual_seed(0))
    >>> bool((quantise(spec, weights).weights() - weights).abs().max() < 0.03)
    True
    """
    counts = channel_counts(spec)
    is_variance = [torch.full((tensor.size,), tensor.kind == "norm_var") for tensor in spec.tensors]
    peaks = torch.stack([part.abs().amax(1) for part in weights.split(counts.tolist(), dim=1)], dim=1)
    scales = torch.where(peaks > 0, peaks / 127, torch.ones_like(peaks))
    values = (weights / scales.repeat_interleave(counts, dim=1)).round().clamp(-127, 127)
    if positive_variances:
        values = torch.where(torch.cat(is_variance), values.clamp_min(1), values)
    return Quantised(values.to(torch.int8), scales, counts)
