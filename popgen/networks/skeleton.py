"""The module of an architecture, into which weights are put."""

from __future__ import annotations

from functools import lru_cache

from torch import nn

from popgen.archs import ArchSpec, build

KEPT = 32  # architectures whose modules are kept; a run has a handful


@lru_cache(maxsize=KEPT)
def skeleton(spec: ArchSpec) -> nn.Module:
    """The network in evaluation mode and without gradients. Its own weights do not matter: callers pass theirs."""
    return build(spec.config, seed=0).eval().requires_grad_(False)
