"""references.safetensors: per architecture the start its networks share, and what their differences are taken from.

Keys are ARCH/start, ARCH/reference and ARCH/scale, each (p,); the metadata tell the state of the index they are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.errors import BrokenFile
from popgen.files import write_tensors
from popgen.types import Flat
from popgen.weights import Scaling

_FILE = "references.safetensors"


def read_references(folder: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors, and the sha256 of the zoo they were made for; both empty where there is no file.

    Raises:
        BrokenFile: it cannot be read.
    """
    path = folder / _FILE
    if not path.exists():
        return {}, ""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return load_file(path), metadata.get("zoo_sha256", "")
    except (OSError, SafetensorError) as error:
        raise BrokenFile(
            f"{path} cannot be read", str(error), "Delete it; building the zoo again writes it anew."
        ) from error


def write_references(folder: Path, tensors: dict[str, Tensor], zoo_sha256: str = "") -> None:
    """Replace the file; an empty hash marks a zoo that is not finished."""
    write_tensors(folder / _FILE, tensors, {"zoo_sha256": zoo_sha256})


def fit_reference(
    spec: ArchSpec, weights: Flat | Callable[[], Iterable[Flat]], start: Tensor | None
) -> dict[str, Tensor]:
    """Reference and scale from an architecture's checkpoints; without a start their mean is the reference."""
    scaling = Scaling.fit(spec, weights, start)
    found = {"reference": scaling.denormalise(torch.zeros(1, spec.size))[0], "scale": scaling.scale}
    if start is not None:
        found |= {"start": start, "reference": start}
    return {what: flat.clone() for what, flat in found.items()}
