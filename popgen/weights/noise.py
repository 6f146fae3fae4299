"""What noise on weights is measured in, and what it may not break: deviations of tensors, and variances that stay positive."""

from __future__ import annotations

import torch
from torch import Tensor

from popgen.archs import ArchSpec

_SMALLEST_VARIANCE = 1e-5  # running variances are raised to this


def tensor_deviations(spec: ArchSpec, flat: Tensor) -> Tensor:
    """The standard deviation of each tensor, for each of its weights (p,)."""
    tensors = flat.split([t.size for t in spec.tensors])
    return torch.cat([t.std(unbiased=False).expand(t.numel()) for t in tensors])


def with_valid_variances(spec: ArchSpec, weights: Tensor) -> Tensor:
    """The weights (..., p) with running variances of at least 1e-5, and all else as it is."""
    is_variance = torch.cat([torch.full((t.size,), t.kind == "norm_var") for t in spec.tensors])
    return torch.where(is_variance, weights.clamp_min(_SMALLEST_VARIANCE), weights)
