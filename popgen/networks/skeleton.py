"""One module for each architecture, which all networks of the architecture share: callers pass the weights."""

from __future__ import annotations

from functools import lru_cache

from torch import nn

from popgen.archs import ArchSpec, build

KEPT = 32  # most architectures whose modules are cached; a run has a handful


@lru_cache(maxsize=KEPT)
def skeleton(spec: ArchSpec) -> nn.Module:
    """Return the architecture's module in evaluation mode, without gradients.

    It is cached and shared, so callers must not change it; they pass weights by functional_call.
    """
    return build(spec.config, seed=0).eval().requires_grad_(False)
