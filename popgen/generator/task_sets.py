"""The condition of a data set of texts: a set of vectors of its description, of phrases for its classes, and of some texts.

The set has one size, so that sets can be encoded together; an element that is not there is a vector of zeros. Each of
the kinds can be left out, and training leaves them out at random, so that a task is known by its words, its texts, both or
neither.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

TaskKind = Literal["both", "words", "texts", "none"]
TASK_KINDS: tuple[TaskKind, ...] = ("both", "words", "texts", "none")
_SHARES = torch.tensor([0.3, 0.3, 0.3, 0.1])  # how often training draws each kind
_PHRASES = 8  # phrases in a set; of more classes they are drawn, of fewer they are repeated


def task_set(words: Tensor, texts: Tensor, count: int, kind: TaskKind, rng: torch.Generator | None = None) -> Tensor:
    """A set (1, 1 + phrases + count, dim).

    Args:
        words: vectors (1 + classes, dim) of the description and the phrases.
        texts: vectors (n, dim) of unlabelled texts, of which `count` are drawn; none where n is 0.

    >>> words, texts = torch.ones(3, 4), torch.ones(5, 4)
    >>> task_set(words, texts, 2, "texts").sum(2)
    tensor([[0., 0., 0., 0., 0., 0., 0., 0., 0., 4., 4.]])
    """
    found = torch.zeros(1 + _PHRASES + count, words.shape[1], device=words.device)
    if kind in ("both", "words"):
        found[0] = words[0]
        if len(words) > 1:
            order = torch.randperm(len(words) - 1, generator=rng, device="cpu").repeat(_PHRASES)[:_PHRASES]
            found[1 : 1 + _PHRASES] = words[1 + order]
    if kind in ("both", "texts") and len(texts):
        found[1 + _PHRASES :] = texts[torch.randint(len(texts), (count,), generator=rng, device="cpu")]
    return found[None]


def drawn_kind() -> TaskKind:
    """A kind drawn as training draws it."""
    return TASK_KINDS[int(torch.multinomial(_SHARES.to("cpu"), 1))]
