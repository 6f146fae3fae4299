"""Architectures: their configurations, the networks built from these, and each network's tensors as data (ArchSpec).

The names below load their modules on first use, so that a wrong name can be refused before torch is imported.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from popgen.archs.config import ArchConfig, with_classes
    from popgen.archs.construction import build, check_runs
    from popgen.archs.inputs import ImageInputs, Inputs
    from popgen.archs.named import ARCHITECTURES, arch_config
    from popgen.archs.outside import class_names, trust_named
    from popgen.archs.spec import ArchSpec, TensorSpec

_PUBLIC = {
    "ARCHITECTURES": "popgen.archs.named",
    "ArchConfig": "popgen.archs.config",
    "ArchSpec": "popgen.archs.spec",
    "ImageInputs": "popgen.archs.inputs",
    "Inputs": "popgen.archs.inputs",
    "TensorSpec": "popgen.archs.spec",
    "arch_config": "popgen.archs.named",
    "build": "popgen.archs.construction",
    "check_runs": "popgen.archs.construction",
    "class_names": "popgen.archs.outside",
    "trust_named": "popgen.archs.outside",
    "with_classes": "popgen.archs.config",
}

__all__ = [
    "ARCHITECTURES",
    "ArchConfig",
    "ArchSpec",
    "ImageInputs",
    "Inputs",
    "TensorSpec",
    "arch_config",
    "build",
    "check_runs",
    "class_names",
    "trust_named",
    "with_classes",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
