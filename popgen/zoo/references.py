"""references.safetensors: for each architecture the start that its networks share, the reference, and the scale.

The reference is what differences of weights are taken from, and the scale divides them (popgen.weights.Scaling). Keys
are ARCH/start, ARCH/reference and ARCH/scale, each (p,). The metadata hold the hash of the zoo that they were computed
from.
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
    """Return the tensors, and the sha256 of the zoo that they were computed from; both are empty if there is no file.

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
    """Replace the file; an empty hash means that the zoo is not finalized."""
    write_tensors(folder / _FILE, tensors, {"zoo_sha256": zoo_sha256})


def fit_reference(
    spec: ArchSpec, weights: Flat | Callable[[], Iterable[Flat]], start: Tensor | None
) -> dict[str, Tensor]:
    """Compute reference and scale from an architecture's checkpoints; without a start their mean is the reference."""
    scaling = Scaling.fit(spec, weights, start)
    found = {"reference": scaling.denormalise(torch.zeros(1, spec.size))[0], "scale": scaling.scale}
    if start is not None:
        found |= {"start": start, "reference": start}
    return {what: flat.clone() for what, flat in found.items()}
