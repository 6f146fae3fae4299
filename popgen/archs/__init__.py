"""Architectures: their configurations, the networks built from these, and each network's tensors as data (ArchSpec)."""

from popgen.archs.config import ArchConfig, with_classes
from popgen.archs.construction import build, check_runs
from popgen.archs.inputs import ImageInputs, Inputs
from popgen.archs.named import ARCHITECTURES, arch_config
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
    "with_classes",
]
