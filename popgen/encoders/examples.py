"""Encoders of a data set's examples, by name: CLIP for images, text:NAME for texts, and those registered in ENCODERS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from popgen.encoders.images import ImageEncoder
from popgen.encoders.texts import PREFIX, TextExampleEncoder


class ExampleEncoder(Protocol):
    """The contract of an encoder that maps each example to a vector."""

    @property
    def dim(self) -> int:
        """The length of a vector."""

    def features(self, examples: Tensor) -> Tensor:
        """Vectors (n, dim) of examples (n, ...) in the form of a data set's `Part.inputs`."""


ENCODERS: dict[str, Callable[[str], ExampleEncoder]] = {}  # name -> function that loads the encoder onto a device


def load_example_encoder(name: str, device: str = "cpu", with_open_clip: bool = False) -> ExampleEncoder:
    """Load the encoder with this name: one of ENCODERS, text:NAME, or else a CLIP.

    Args:
        with_open_clip: see `ImageEncoder.load`.

    Raises:
        PopgenError: as in `ImageEncoder.load`.
    """
    if name in ENCODERS:
        return ENCODERS[name](device)
    if name.startswith(PREFIX):
        return TextExampleEncoder.load(name, device)
    return ImageEncoder.load(name, device, with_open_clip)
