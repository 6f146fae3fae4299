"""The inputs of classifiers of texts: texts or pairs of texts as the ids of their tokens."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from popgen.archs.adapters.base import tokenize
from popgen.errors import BadInput
from popgen.texts import to_texts

PADDING = -1  # stands where a text has fewer tokens than the longest
_FEW = 32  # tokens that every vocabulary has


@dataclass(frozen=True)
class SequenceInputs:
    """Texts (n, bytes) as token ids (n, rows, tokens) of a classifier's own tokenizer, padded with PADDING.

    The first row holds the ids. Where the tokenizer tells the two texts of a pair apart, a second row says to which of them a
    token belongs.
    """

    kind: ClassVar[str] = "sequences"
    costly: ClassVar[bool] = False

    base: str  # the classifier that has the tokenizer
    context: int = 128  # most tokens of a text that are read
    rows: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows, and the most tokens."""
        return self.rows, self.context

    def prepare(self, examples: Tensor) -> Tensor:
        """Encode texts (n, bytes) as far as the longest of them.

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
        ids = torch.where(found["attention_mask"] == 0, PADDING, found["input_ids"])
        rows = [ids, found["token_type_ids"]] if self.rows == 2 else [ids]
        return torch.stack(rows, 1).to(examples.device)

    def example(self, n: int = 1) -> Tensor:
        """The first ids of the vocabulary, again and again, in rows as long as may be."""
        rows = torch.zeros(n, self.rows, self.context, dtype=torch.long)
        rows[:, 0] = torch.arange(n * self.context).view(n, self.context) % _FEW
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
