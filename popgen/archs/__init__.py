"""Architectures: a network's tensors as data (ArchSpec) and the builders of the built-in networks."""

from popgen.archs.builders import ARCHITECTURES, ArchConfig, arch_config, build, check_runs
from popgen.archs.outside import class_names, trust_named
from popgen.archs.spec import ArchSpec, TensorSpec

__all__ = [
    "ARCHITECTURES",
    "ArchConfig",
    "ArchSpec",
    "TensorSpec",
    "arch_config",
    "build",
    "check_runs",
    "class_names",
    "trust_named",
]
