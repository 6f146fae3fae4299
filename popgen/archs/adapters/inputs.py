"""The inputs of adapters: texts, as states behind the frozen lower layers of their base.

These layers run once for a split, and what they returned is kept while the process has room for it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from popgen.archs.adapters.base import load_base
from popgen.errors import BadInput
from popgen.texts import to_texts

_KEPT = 4 * 2**30  # most bytes of states that are kept
_KEPT_STATES: OrderedDict[tuple[TextInputs, str], Tensor] = OrderedDict()  # by use, the most recent last


@dataclass(frozen=True)
class TextInputs:
    """Texts, tokenized for `base`, cut to `context` tokens, and run through its first `frozen` layers."""

    kind: ClassVar[str] = "texts"

    base: str = "minilm"
    context: int = 128
    frozen: int = 0
    width: int = 384  # length of a token's state

    @property
    def shape(self) -> tuple[int, ...]:
        """The most tokens, and the length of a token's state with its mark."""
        return self.context, self.width + 1

    def prepare(self, examples: Tensor) -> Tensor:
        """States (n, tokens, width + 1) of texts (n, bytes); the last column marks real tokens by 1.

        Raises:
            BadInput: the examples are no texts.
        """
        if examples.dtype != torch.uint8 or examples.dim() != 2:
            raise BadInput(
                f"an adapter of {self.base!r} reads texts",
                f"the examples have the shape {tuple(examples.shape)}",
                "Name text:FILE.",
            )
        key = self, hashlib.sha256(examples.contiguous().numpy(force=True).data).hexdigest()
        if key in _KEPT_STATES:
            _KEPT_STATES.move_to_end(key)
            return _KEPT_STATES[key]
        states = load_base(self.base).states(to_texts(examples), self.context, self.frozen).to(examples.device)
        _KEPT_STATES[key] = states
        while len(_KEPT_STATES) > 1 and sum(one.numel() * 4 for one in _KEPT_STATES.values()) > _KEPT:
            _KEPT_STATES.popitem(last=False)
        return states

    def example(self, n: int = 1) -> Tensor:
        """States of four tokens, from a fixed seed."""
        states = torch.randn(n, 4, self.width + 1, generator=torch.Generator().manual_seed(0))
        states[..., -1] = 1
        return states

    def text(self) -> str:
        """The phrase about the inputs in the architecture's canonical text."""
        return f"input texts of {self.context} tokens"

    def remark(self, shape: tuple[int, ...]) -> str:  # noqa: ARG002 - texts have no shape to change
        """A remark for users on how texts are read."""
        lower = f", whose first {self.frozen} layers run once" if self.frozen else ""
        return f"texts are cut to {self.context} tokens and read by the frozen {self.base}{lower}"

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TextInputs:
        """The inverse of `to_json`."""
        return cls(**data)
