"""Architectures: a network's tensors as data (ArchSpec) and the builders of the built-in networks."""

from popgen.archs.builders import ARCHITECTURES, arch_config, build, check_runs
from popgen.archs.config import ArchConfig
from popgen.archs.inputs import ImageInputs, Inputs
from popgen.archs.outside import class_names, trust_named
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
    "trust_named",
]
