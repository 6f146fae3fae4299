"""`popgen generate`: a population of networks for an architecture and a data set, without a search."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from popgen import __version__
from popgen.data import load_data
from popgen.errors import BadInput
from popgen.generator import Generator
from popgen.weights.network import accuracy


@dataclass(frozen=True)
class Generated:
    """One network that was written, with its accuracy (0 to 1) on the validation split where its head fits."""

    arch: str
    data: str
    index: int
    weights: str
    val_accuracy: float | None

    def to_json(self) -> dict[str, Any]:
        """The keys of --json; they are stable."""
        return asdict(self)


def generate(
    archs: list[str],
    data: str,
    out: str,
    n: int = 16,
    *,
    generator: str = "digits",
    seed: int = 0,
    guidance: float | None = None,
    steps: int | None = None,
) -> list[Generated]:
    """Sample `n` networks for each architecture and write them as `out/ARCH/00.safetensors`, ...

    Raises:
        PopgenError: an unknown name, or an `out` that is not empty.
    """
    made = Generator.from_pretrained(generator)
    for arch in archs:
        made.spec(arch)
    if len(set(archs)) < len(archs):
        raise BadInput(f"--arch names one architecture twice: {', '.join(archs)}", "", "Name each once.")
    for name, value, least in (("steps", steps, 1), ("guidance", guidance, 0), ("seed", seed, 0)):
        if value is not None and not value >= least:
            raise BadInput(f"--{name} is {value}", f"it is {least} or more", "")
    if n < 1:
        raise BadInput(f"-n is {n}", "at least one network is generated", "Give a number such as 16.")
    folder = Path(out)
    if folder.exists() and any(folder.iterdir()):
        raise BadInput(
            f"{folder} is not empty", "a population is never mixed with other files", "Choose another --out."
        )
    data_set = load_data(data)
    made.check_data(data_set)
    made.load_encoders()
    same_classes = list(data_set.classes) == made.provenance.classes
    rows = []
    for arch in archs:
        (folder / arch).mkdir(parents=True, exist_ok=True)
        spec, latents = made.spec(arch), made.sample(arch, data_set, n, seed=seed, guidance=guidance, steps=steps)
        for i, flat in enumerate(made.decode(arch, latents)):
            file = folder / arch / f"{i:02d}.safetensors"
            state = {name: tensor.clone() for name, tensor in spec.to_state(flat).items()}
            save_file(state, file, metadata={"format": "pt", "popgen": __version__, "arch": arch, "data": data})
            rows.append(
                Generated(arch, data, i, str(file), accuracy(spec, flat, data_set.val) if same_classes else None)
            )
        save_file({"latents": torch.as_tensor(latents).contiguous()}, folder / arch / "latents.safetensors")
    return rows
