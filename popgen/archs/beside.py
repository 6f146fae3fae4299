"""Beside the weights of some architectures lies a folder in the format of the library that they are from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from popgen.archs.adapters.peft_folder import write_peft_beside
from popgen.types import StateDict

if TYPE_CHECKING:
    from popgen.archs.spec import ArchSpec


def write_beside(file: Path, spec: ArchSpec, state: StateDict, classes: Sequence[str]) -> Path | None:
    """Write the network of `file`, NAME.safetensors, into a folder beside it: NAME-peft for an adapter, NAME-hf for `hf:`.

    Args:
        classes: names of the network's outputs.

    Returns:
        The folder, or None for other architectures.
    """
    if not spec.config.builder.startswith("hf:"):
        return write_peft_beside(file, spec, state, classes)
    from popgen.archs.classifiers.folder import write_classifier  # noqa: PLC0415 - importing transformers takes seconds

    return write_classifier(file.with_name(f"{file.name.removesuffix('.safetensors')}-hf"), spec, state, classes)
