"""The inputs of language models: texts as the ids of their first tokens."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from popgen.errors import BadInput
from popgen.texts import to_texts

PADDING = -1  # stands behind the tokens of a text that has fewer than the context
_FEW = 32  # tokens that every vocabulary has


@dataclass(frozen=True)
class TokenInputs:
    """Texts (n, bytes) as token ids (n, context) of a language model's own tokenizer, padded with PADDING."""

    kind: ClassVar[str] = "tokens"
    costly: ClassVar[bool] = False

    base: str  # the language model that has the tokenizer
    context: int = 128  # tokens of a text that are read

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of tokens."""
        return (self.context,)

    def prepare(self, examples: Tensor) -> Tensor:
        """Encode texts (n, bytes), with the tokens that the tokenizer itself puts before and behind them.

        Raises:
            BadInput: the examples are no texts.
        """
        from popgen.archs.language.bases import read_tokenizer  # noqa: PLC0415 - importing transformers takes seconds

        if examples.dim() != 2 or examples.dtype != torch.uint8:
            raise BadInput(
                f"lm:{self.base} reads texts, and the examples are {examples.dtype} of shape {tuple(examples.shape)}",
                "",
                "Name data of texts, such as lines:FILE.txt.",
            )
        texts = to_texts(examples)
        found = torch.full((len(texts), self.context), PADDING)
        tokenizer = read_tokenizer(self.base)
        for row, ids in zip(found, tokenizer(texts)["input_ids"] if texts else [], strict=True):
            kept = ids[: self.context]
            row[: len(kept)] = torch.tensor(kept)
        return found.to(examples.device)

    def example(self, n: int = 1) -> Tensor:
        """The first ids of the vocabulary, again and again."""
        return torch.arange(n * self.context).view(n, self.context) % _FEW

    def text(self) -> str:
        """The number of tokens in words."""
        return f"input {self.context} tokens"

    def remark(self, shape: tuple[int, ...]) -> str:
        """A remark for users on what of texts of this shape is read.

        >>> TokenInputs("stories260K.bin", 128).remark((200,))
        'of each text, at most 200 bytes long, the first 128 tokens are read'
        """
        return f"of each text, at most {shape[0]} bytes long, the first {self.context} tokens are read"

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TokenInputs:
        """The inverse of `to_json`."""
        return cls(str(data["base"]), int(data["context"]))
