"""Where the networks of an audit come from: a generator, or a folder of state dicts that another tool made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch

from popgen.archs import ArchSpec
from popgen.data import DataSet
from popgen.errors import BadInput, NotFound
from popgen.generator import Generator
from popgen.types import Flat
from popgen.zoo import Zoo
from popgen.zoo.imports.tensors import read_tensors

ENDINGS = (".safetensors", ".pt", ".pth")
_NO_NETWORK = "latents.safetensors"  # `popgen generate` writes it beside the networks


class Source(Protocol):
    """Gives the networks to audit."""

    @property
    def name(self) -> str:
        """The generator or folder."""

    def archs(self) -> list[str]:
        """Architectures that it has networks of."""

    def networks(self, spec: ArchSpec, arch: str, data: DataSet, n: int, seed: int) -> Flat:
        """Networks (at most n, p) for a data set."""


@dataclass(frozen=True)
class FromGenerator:
    """Samples of a generator under the condition of the data set, from its training images."""

    name: str
    generator: Generator

    def archs(self) -> list[str]:
        """The trained architectures."""
        return list(self.generator.specs)

    @torch.no_grad()
    def networks(self, spec: ArchSpec, arch: str, data: DataSet, n: int, seed: int) -> Flat:  # noqa: ARG002 - see Source
        """Networks (n, p), each under its own draws of images."""
        return self.generator.decode(arch, self.generator.sample(arch, data, n, seed=seed))


@dataclass(frozen=True)
class FromFolder:
    """State dicts in FOLDER/ARCH/, or in FOLDER itself where there is one architecture."""

    name: str
    files: dict[str, list[Path]] = field(default_factory=dict)  # by architecture

    def archs(self) -> list[str]:
        """Architectures that the folder has networks of."""
        return list(self.files)

    def networks(self, spec: ArchSpec, arch: str, data: DataSet, n: int, seed: int) -> Flat:  # noqa: ARG002 - see Source
        """The first n networks by name. They are for whatever data set is asked for.

        Raises:
            BadInput: a file does not fit the architecture.
            BrokenFile: a file cannot be read.
        """
        rows = []
        for path in self.files[arch][:n]:
            tensors = read_tensors(path)
            lines = spec.differences({name: tuple(tensor.shape) for name, tensor in tensors.items()})
            if lines:
                raise BadInput(
                    f"{path} does not fit the architecture {arch!r}",
                    "; ".join(lines[:6]) + (" ..." if len(lines) > 6 else ""),
                    "Name the zoo of the networks' architecture, or leave this file out of the folder.",
                )
            rows.append(spec.to_flat(tensors))
        return torch.stack(rows)


def open_folder(folder: str, zoo: Zoo, archs: list[str]) -> FromFolder:
    """Find the networks of a folder by architecture.

    Args:
        archs: the architectures that were asked for; [] for all.

    Raises:
        NotFound: there is no such folder.
        BadInput: it has fewer than two networks of an architecture, or it is not clear of which architecture they are.
    """
    path, wanted = Path(folder), archs or zoo.archs
    if not path.is_dir():
        raise NotFound(f"there is no folder {folder!r}", "networks to audit were looked for there", "")
    files = {arch: found for arch in wanted if (found := _networks_in(path / arch))}
    flat = _networks_in(path)
    if not files and flat:
        if len(wanted) != 1:
            raise BadInput(
                f"{folder} does not say of which architecture its networks are",
                f"the zoo has {', '.join(wanted)}",
                "Name it with --arch, or sort the files into folders of these names.",
            )
        files = {wanted[0]: flat}
    few = [arch for arch, found in files.items() if len(found) < 2]
    if not files or few:
        raise BadInput(
            f"{folder} has {'fewer than two networks of ' + ', '.join(few) if few else 'no networks'}",
            f"looked for *{', *'.join(ENDINGS)} in it and in its folders {', '.join(wanted)}",
            "An audit needs two networks or more of an architecture.",
        )
    return FromFolder(folder, files)


def _networks_in(folder: Path) -> list[Path]:
    return (
        sorted(p for p in folder.iterdir() if p.suffix in ENDINGS and p.name != _NO_NETWORK) if folder.is_dir() else []
    )
