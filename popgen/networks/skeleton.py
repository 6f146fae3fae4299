"""Modules that weights are put into."""

from __future__ import annotations

from torch import nn

from popgen.archs import ArchSpec, build

_SKELETONS: dict[str, nn.Module] = {}


def skeleton(spec: ArchSpec) -> nn.Module:
    """An instance of the architecture in evaluation mode, whose own weights do not matter; made once."""
    key = repr(spec.config)
    if key not in _SKELETONS:
        _SKELETONS[key] = build(spec.config, seed=0).eval().requires_grad_(False)
    return _SKELETONS[key]
