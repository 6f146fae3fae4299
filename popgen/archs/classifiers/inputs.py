"""The inputs of classifiers of texts: texts or pairs of texts as the ids of their tokens."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from popgen.archs.adapters.base import tokenize
from popgen.errors import BadInput
from popgen.texts import to_texts

ROWS = ("input_ids", "attention_mask", "token_type_ids")  # the keyword arguments of the networks
_FEW = 32  # tokens that every vocabulary has


@dataclass(frozen=True)
class SequenceInputs:
    """Texts (n, bytes) as what a classifier's own tokenizer makes of them (n, rows, tokens), padded to the longest.

    The rows are the ids of the tokens, a mask with 1 for those of the text, and, where the tokenizer tells the two texts of a
    pair apart, to which of them a token belongs.
    """

    kind: ClassVar[str] = "sequences"
    costly: ClassVar[bool] = False

    base: str  # the classifier that has the tokenizer
    context: int = 128  # most tokens of a text that are read
    rows: int = 2

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows, and the most tokens."""
        return self.rows, self.context

    def prepare(self, examples: Tensor) -> Tensor:
        """Encode texts (n, bytes).

        Raises:
            BadInput: the examples are no texts.
        """
        from popgen.archs.classifiers.bases import read_tokenizer  # noqa: PLC0415 - importing transformers takes seconds

        if examples.dim() != 2 or examples.dtype != torch.uint8:
            raise BadInput(
                f"hf:{self.base} reads texts, and the examples are {examples.dtype} of shape {tuple(examples.shape)}",
                "",
                "Name data of texts, such as text:FILE.jsonl.",
            )
        if not len(examples):
            return torch.empty(0, self.rows, 1, dtype=torch.long, device=examples.device)
        found = tokenize(read_tokenizer(self.base), to_texts(examples), self.context)
        return torch.stack([found[row] for row in ROWS[: self.rows]], 1).to(examples.device)

    def example(self, n: int = 1) -> Tensor:
        """The first ids of the vocabulary, again and again, in rows as long as may be."""
        rows = torch.zeros(n, self.rows, self.context, dtype=torch.long)
        rows[:, 0], rows[:, 1] = torch.arange(n * self.context).view(n, self.context) % _FEW, 1
        return rows

    def text(self) -> str:
        """The number of tokens in words."""
        return f"input texts of {self.context} tokens"

    def remark(self, shape: tuple[int, ...]) -> str:
        """A remark for users on what of texts of this shape is read.

        >>> SequenceInputs("models/tiny", 128).remark((200,))
        'of each text, at most 200 bytes long, the first 128 tokens are read'
        """
        return f"of each text, at most {shape[0]} bytes long, the first {self.context} tokens are read"

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> SequenceInputs:
        """The inverse of `to_json`."""
        return cls(str(data["base"]), int(data["context"]), int(data["rows"]))
