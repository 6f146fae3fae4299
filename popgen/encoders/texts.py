"""Encoder of texts as examples: a sentence-transformers model maps each text to a unit vector.

A data set of texts is also known by words: its description, and a phrase for each class. Three further coordinates of a vector
say which of the three it stands for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from popgen.encoders.arch import ArchTextEncoder
from popgen.texts import PAIR, to_texts

PREFIX = "text:"
_KINDS = ("example", "description", "phrase")


def is_text_encoder(name: str) -> bool:
    """Whether an encoder of examples is one of texts.

    >>> is_text_encoder("text:minilm"), is_text_encoder("clip-tiny")
    (True, False)
    """
    return name.startswith(PREFIX)


@dataclass(frozen=True)
class TextExampleEncoder:
    """A frozen encoder of sentences; `dim` is the length of its vectors."""

    name: str
    model: ArchTextEncoder
    device: str = "cpu"

    @classmethod
    def load(cls, name: str, device: str = "cpu") -> TextExampleEncoder:
        """Load the encoder text:NAME, where NAME is one of popgen.encoders.arch.

        Raises:
            PopgenError: as `ArchTextEncoder.load`.
        """
        return cls(name, ArchTextEncoder.load(name.removeprefix(PREFIX), device), device)

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self.model.dim + len(_KINDS)

    def features(self, examples: Tensor) -> Float[Tensor, "n dim"]:
        """Vectors of texts (n, bytes), see popgen.texts.

        >>> from popgen.texts import to_bytes
        >>> TextExampleEncoder.load("text:text-tiny").features(to_bytes(["a text"])).shape
        torch.Size([1, 67])
        """
        return self._encode([text.replace(PAIR, " ") or " " for text in to_texts(examples)], "example")

    def words(self, description: str, phrases: tuple[str, ...]) -> Float[Tensor, "words dim"]:
        """Vectors of the description, zero where there is none, and behind it of the phrases for the classes."""
        first = self._encode([description], "description") if description else torch.zeros(1, self.dim)
        return torch.cat([first, self._encode(list(phrases), "phrase")])

    def _encode(self, texts: list[str], kind: str) -> Tensor:
        if not texts:
            return torch.zeros(0, self.dim)
        vectors = self.model.encode([text if text.strip() else "." for text in texts])
        mark = F.one_hot(torch.tensor(_KINDS.index(kind)), len(_KINDS)).float()
        return torch.cat([vectors, mark.to(vectors.device).expand(len(vectors), -1)], 1)
