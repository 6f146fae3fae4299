"""Encoders of a data set's examples, by name: CLIP for images, and those registered in ENCODERS for other data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from popgen.encoders.images import ImageEncoder


class ExampleEncoder(Protocol):
    """The contract of an encoder that maps each example to a vector."""

    @property
    def dim(self) -> int:
        """The length of a vector."""

    def features(self, examples: Tensor) -> Tensor:
        """Vectors (n, dim) of examples (n, ...) in the form of a data set's `Part.inputs`."""


ENCODERS: dict[str, Callable[[str], ExampleEncoder]] = {}  # name -> function that loads the encoder onto a device


def load_example_encoder(name: str, device: str = "cpu", with_open_clip: bool = False) -> ExampleEncoder:
    """Load the encoder with this name from ENCODERS, or else the CLIP with this name.

    Args:
        with_open_clip: see `ImageEncoder.load`.

    Raises:
        PopgenError: as in `ImageEncoder.load`.
    """
    return ENCODERS[name](device) if name in ENCODERS else ImageEncoder.load(name, device, with_open_clip)
