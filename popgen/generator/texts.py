"""The sentence embeddings of a generator's own architectures, which are stored in its folder.

With them a condition on a trained architecture needs no text encoder, whose library takes several seconds to import.
They hold for the encoder that made them: its name, and the hash of its files where it is a folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.encoders.arch import encoder_sha256
from popgen.errors import BrokenFile, brief
from popgen.files import write_text
from popgen.json_text import json_text, parse_json

FILE = "texts.json"


@dataclass(frozen=True)
class StoredTexts:
    """Embeddings (dim,) by the text of the architecture's configuration, and the encoder that made them."""

    encoder: str = ""
    sha256: str = ""  # hash of the encoder's files; empty for an encoder from the hub
    embeddings: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, encoder: str, specs: Iterable[ArchSpec], embeddings: Iterable[Tensor]) -> StoredTexts:
        """Return the embeddings of architectures by an encoder of that name."""
        texts = [spec.config.text() for spec in specs]
        vectors = [vector.detach().float().cpu() for vector in embeddings]
        return cls(encoder, encoder_sha256(encoder), dict(zip(texts, vectors, strict=True)))

    def holds(self, encoder: str, specs: Iterable[ArchSpec]) -> bool:
        """Whether all these architectures are stored, by this encoder with the files that it has now."""
        known = all(spec.config.text() in self.embeddings for spec in specs)
        return known and encoder == self.encoder and encoder_sha256(encoder) == self.sha256

    def encode(self, texts: list[str]) -> Tensor:
        """Return the embeddings (n, dim) of stored texts."""
        return torch.stack([self.embeddings[text] for text in texts])


def write_texts(stored: StoredTexts, folder: Path) -> None:
    """Write the embeddings into a generator's folder; nothing is written where there are none."""
    if stored.embeddings:
        lines = [f"  {json_text(text)}: {json_text(v.tolist())}" for text, v in stored.embeddings.items()]
        head = f'{{\n "encoder": {json_text(stored.encoder)},\n "sha256": {json_text(stored.sha256)},\n'
        write_text(folder / FILE, head + ' "embeddings": {\n' + ",\n".join(lines) + "\n }\n}\n")


def read_texts(folder: Path, dim: int) -> StoredTexts:
    """Read the embeddings of a generator's folder; there are none in folders of earlier versions.

    Args:
        dim: the length of an embedding.

    Raises:
        BrokenFile: the file is truncated, or its embeddings have another length.
    """
    file = folder / FILE
    if not file.exists():
        return StoredTexts()
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
        embeddings = {str(text): torch.tensor(vector) for text, vector in content["embeddings"].items()}
        for text, vector in embeddings.items():
            if vector.shape != (dim,) or not vector.is_floating_point():
                raise ValueError(f"the embedding of {text!r} is not a list of {dim} numbers")
        return StoredTexts(str(content["encoder"]), str(content["sha256"]), embeddings)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        todo = "Delete it: the embeddings are then computed when they are needed."
        raise BrokenFile(f"{file} cannot be read", brief(error), todo) from error
