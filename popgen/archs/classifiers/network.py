"""A classifier of transformers as a network from one tensor to logits; its state dict has the names of the model's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from popgen.archs.adapters.modules import hold_children
from popgen.archs.classifiers.inputs import PADDING


class TextClassifier(nn.Module):
    """Maps token ids (n, rows, tokens), as `SequenceInputs` makes them, to logits (n, classes)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        hold_children(self, model)
        self.filler = getattr(model.config, "pad_token_id", None) or 0

    def forward(self, rows: Tensor) -> Tensor:
        """Logits (n, classes); columns that are padding in all texts are left out."""
        used = (rows[:, 0] != PADDING).any(0)
        used[0] = True
        rows = rows[:, :, used]
        mask = rows[:, 0] != PADDING
        inputs = {"input_ids": torch.where(mask, rows[:, 0], self.filler), "attention_mask": mask.long()}
        if rows.shape[1] == 2:
            inputs["token_type_ids"] = rows[:, 1]
        logits: Tensor = self.__dict__["model_of_all"](**inputs).logits
        return logits


class ImageClassifier(nn.Module):
    """Maps normalised images (n, channels, height, width) to logits (n, classes)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        hold_children(self, model)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes)."""
        logits: Tensor = self.__dict__["model_of_all"](pixel_values=images).logits
        return logits
