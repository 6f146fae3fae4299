"""Architectures: their configurations, the networks built from these, and each network's tensors as data (ArchSpec).

The names below load their modules on first use, so that a wrong name can be refused before torch is imported.
"""

from typing import TYPE_CHECKING

from popgen.lazy import lazy

if TYPE_CHECKING:
    from popgen.archs.config import ArchConfig, with_classes
    from popgen.archs.construction import build, check_runs
    from popgen.archs.inputs import ImageInputs, Inputs
    from popgen.archs.named import ARCHITECTURES, arch_config
    from popgen.archs.outside import class_names, remember_builders, trust_named
    from popgen.archs.spec import ArchSpec, TensorSpec


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
    "remember_builders",
    "trust_named",
    "with_classes",
]

__getattr__ = lazy(
    __name__,
    {
        "popgen.archs.config": ["ArchConfig", "with_classes"],
        "popgen.archs.construction": ["build", "check_runs"],
        "popgen.archs.inputs": ["ImageInputs", "Inputs"],
        "popgen.archs.named": ["ARCHITECTURES", "arch_config"],
        "popgen.archs.outside": ["class_names", "remember_builders", "trust_named"],
        "popgen.archs.spec": ["ArchSpec", "TensorSpec"],
    },
)
