"""references.safetensors: for each architecture of a zoo its shared start, its base, its reference and its scale.

The keys are ARCH/start, ARCH/base, ARCH/reference and ARCH/scale, each of shape (p,); start is absent if networks share
none, and base if the start is no trained network. The metadata hold the sha256 of the zoo that the tensors were fitted to.
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
    """The tensors, and the sha256 of the zoo that they were fitted to; both are empty if there is no file.

    Raises:
        BrokenFile: the file cannot be read.
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
    """Replace the file; an empty hash marks a zoo that is not finalised."""
    write_tensors(folder / _FILE, tensors, {"zoo_sha256": zoo_sha256})


def fit_reference(
    spec: ArchSpec, weights: Flat | Callable[[], Iterable[Flat]], start: Tensor | None
) -> dict[str, Tensor]:
    """Reference and scale of an architecture, each (p,), and its start if there is one, by the last part of their keys.

    Args:
        weights: checkpoints (n, p), or a function that yields them in chunks and can be called repeatedly.
        start: the start (p,) that the checkpoints share, which is then the reference; None takes their mean.
    """
    scaling = Scaling.fit(spec, weights, start)
    zeros = torch.zeros(1, scaling.moved(spec).size)
    fitted = {"reference": scaling.denormalise(zeros)[0], "scale": scaling.scale}
    if start is not None:
        fitted |= {"start": start, "reference": start}
    return {kind: flat.clone() for kind, flat in fitted.items()}
