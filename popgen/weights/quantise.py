"""Quantisation to int8 of the weights of many networks of one architecture, the rival of storing them as codes.

Values are rounded to the nearest multiple of a scale. There is a scale for each output channel of a matrix or kernel,
and one for each vector (the usual symmetric post-training scheme: Krishnamoorthi, arXiv 1806.08342). Running variances
of batch norm are at least one multiple, so that they remain positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import zstandard
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.types import Flat

_LEVEL = 19  # compression level of zstd: the highest below its --ultra levels


@dataclass(frozen=True)
class Quantised:
    """Networks (n, p) as integers from -127 to 127, with their scales."""

    values: Tensor  # int8, (n, p)
    scales: Tensor  # float32, (n, s), one for each channel or vector
    counts: Tensor  # (s,), number of values with the same scale

    def weights(self) -> Flat:
        """Return the dequantised networks (n, p)."""
        return self.values.float() * self.scales.repeat_interleave(self.counts, dim=1)

    def compressed(self) -> int:
        """Return the bytes of values and scales, each compressed as a whole with zstd."""
        packer = zstandard.ZstdCompressor(level=_LEVEL)
        return sum(len(packer.compress(matrix.contiguous().numpy().tobytes())) for matrix in (self.values, self.scales))


def channel_counts(spec: ArchSpec) -> Tensor:
    """Return the number of values (s,) of each output channel or vector."""
    counts = []
    for tensor in spec.tensors:
        channels = tensor.shape[0] if len(tensor.shape) > 1 else 1
        counts += [tensor.size // channels] * channels
    return torch.tensor(counts)


def quantise(spec: ArchSpec, weights: Flat, networks: bool = True) -> Quantised:
    """Quantise the rows (n, p) of an architecture's size.

    Args:
        networks: whether the rows are networks, whose running variances must remain positive, and not, for example,
            the rows of a basis.

    >>> spec = ArchSpec.from_config("mlp-s")
    >>> weights = torch.randn(3, spec.size, generator=torch.Generator().manual_seed(0))
    >>> bool((quantise(spec, weights).weights() - weights).abs().max() < 0.03)
    True
    """
    count = channel_counts(spec)
    variance = [torch.full((tensor.size,), tensor.kind == "norm_var") for tensor in spec.tensors]
    peaks = torch.stack([values.abs().amax(1) for values in weights.split(count.tolist(), dim=1)], dim=1)
    scales = torch.where(peaks > 0, peaks / 127, torch.ones_like(peaks))
    values = (weights / scales.repeat_interleave(count, dim=1)).round().clamp(-127, 127)
    if networks:
        values = torch.where(torch.cat(variance), values.clamp_min(1), values)
    return Quantised(values.to(torch.int8), scales, count)
