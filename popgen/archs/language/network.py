"""A language model as a network from token ids to the log likelihood of each next token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popgen.archs.adapters.modules import hold_children
from popgen.archs.language.inputs import PADDING

_CERTAIN = -1e-12  # 0 marks padding, so that no token has it


class NextTokens(nn.Module):
    """Gives the log likelihoods (n, context - 1, 1) of the next tokens, in nats; they are 0 where token ids (n, context) are padded.

    Its state dict has the names of the model's own.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        hold_children(self, model)

    def forward(self, ids: Tensor) -> Tensor:
        """The log likelihoods; padding follows the tokens, which do not see it."""
        model = self.__dict__["model_of_all"]
        logits = model(input_ids=ids[:, :-1].clamp_min(0), use_cache=False).logits
        losses = F.cross_entropy(logits.float().transpose(1, 2), ids[:, 1:], ignore_index=PADDING, reduction="none")
        likelihoods = torch.where(ids[:, 1:] == PADDING, 0.0, (-losses).clamp_max(_CERTAIN))
        return likelihoods.unsqueeze(-1)
