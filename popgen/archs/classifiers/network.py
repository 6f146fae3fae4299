"""A classifier of transformers as a network from one tensor to logits; its state dict has the names of the model's own."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from popgen.archs.adapters.modules import hold_children
from popgen.archs.classifiers.inputs import ROWS


class _Classifier(nn.Module):
    """Holds a model of transformers; `head_name` is the last linear layer outside the body that its tasks share."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        hold_children(self, model)
        body = f"{model.base_model_prefix}."
        linear = [name for name, one in model.named_modules() if isinstance(one, nn.Linear)]
        outside = [name for name in linear if not name.startswith(body)]
        self.head_name = (outside or linear or [""])[-1]  # popgen.archs.spec reads it

    def _logits(self, **inputs: Tensor) -> Tensor:
        logits: Tensor = self.__dict__["model_of_all"](**inputs).logits
        return logits


class TextClassifier(_Classifier):
    """Maps tokens (n, rows, tokens), as `SequenceInputs` makes them, to logits (n, classes)."""

    def forward(self, rows: Tensor) -> Tensor:
        """Logits (n, classes); columns that are padding in all texts are left out."""
        used = rows[:, 1].any(0)
        used[0] = True
        return self._logits(**dict(zip(ROWS, rows[:, :, used].unbind(1), strict=False)))


class ImageClassifier(_Classifier):
    """Maps normalised images (n, channels, height, width) to logits (n, classes)."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes)."""
        return self._logits(pixel_values=images)
