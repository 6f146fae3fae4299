"""Encoders of a data set's examples, by name: CLIP for images, and whatever else is registered in ENCODERS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from popgen.encoders.images import ImageEncoder


class ExampleEncoder(Protocol):
    """Gives one vector for each example of a data set."""

    @property
    def dim(self) -> int:
        """The length of a vector."""

    def features(self, examples: Tensor) -> Tensor:
        """Vectors (n, dim) of a data set's examples (n, ...), as its splits hold them."""


ENCODERS: dict[str, Callable[[str], ExampleEncoder]] = {}  # by name, functions of the device


def load_example_encoder(name: str, device: str = "cpu") -> ExampleEncoder:
    """The encoder of that name; a name that is not in ENCODERS is that of a CLIP.

    Raises:
        PopgenError: as `ImageEncoder.load`.
    """
    return ENCODERS[name](device) if name in ENCODERS else ImageEncoder.load(name, device)
