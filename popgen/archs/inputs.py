"""The inputs of a network: how a data set's examples are prepared for it, and made-up examples for tracing it.

All other code treats inputs as opaque tensors: only the classes here know whether they are pixels or something else. A
further kind of inputs is one more class, registered in INPUTS.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from popgen.archs.adapters.inputs import TextInputs
from popgen.archs.classifiers.inputs import SequenceInputs
from popgen.archs.language.inputs import TokenInputs
from popgen.errors import BadInput


class Inputs(Protocol):
    """The contract of a kind of inputs."""

    kind: ClassVar[str]  # the class's key in INPUTS
    costly: ClassVar[
        bool
    ]  # whether `prepare` costs about as much as the network, so that its results are worth keeping

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""

    def prepare(self, examples: Tensor) -> Tensor:
        """Convert a data set's examples (n, ...) to inputs of the network (n, ...)."""

    def example(self, n: int = 1) -> Tensor:
        """A batch of `n` made-up inputs, already prepared and always the same, for tracing."""

    def text(self) -> str:
        """The phrase about the inputs in the architecture's canonical text."""

    def remark(self, shape: tuple[int, ...]) -> str:
        """A remark for users on how `prepare` changes examples of this shape; empty if it does not."""

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON types."""

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Inputs:
        """The inverse of `to_json`."""


@dataclass(frozen=True)
class ImageInputs:
    """Images in [0, 1], resized to `shape` and normalised to (x - mean) / std.

    `mean` and `std` hold one value per channel, or one for all channels.
    """

    kind: ClassVar[str] = "images"
    costly: ClassVar[bool] = False

    shape: tuple[int, int, int] = (1, 8, 8)  # channels, height, width
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def prepare(self, examples: Tensor) -> Tensor:
        """Resize images (n, c, h, w) to the network's shape and normalise them.

        Raises:
            BadInput: the examples are no images.
        """
        if examples.dim() != 4:
            raise BadInput(
                f"a network of images cannot read examples of the shape {tuple(examples.shape[1:])}",
                "such examples are texts or something else",
                "Name an architecture for such data, or a data set of images.",
            )
        images = fit_images(examples, self.shape)
        mean, std = (torch.tensor(v, device=images.device).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return (images - mean) / std

    def example(self, n: int = 1) -> Tensor:
        """Uniform noise from a fixed seed."""
        return torch.rand(n, *self.shape, generator=torch.Generator().manual_seed(0))

    def text(self) -> str:
        """The shape in words, such as `input 3x32x32`."""
        return f"input {'x'.join(map(str, self.shape))}"

    def remark(self, shape: tuple[int, ...]) -> str:
        """A remark for users on how images of this shape are resized; empty if they already have the network's shape.

        >>> print(ImageInputs((3, 32, 32)).remark((3, 96, 96)))
        images of 3x96x96 resized to the network's 3x32x32 (bilinear, antialiased)
        """
        if shape == self.shape:
            return ""
        was, is_now = ("x".join(map(str, one)) for one in (shape, self.shape))
        colour = {(1, 3): ", grey repeated to colour", (3, 1): ", colour averaged to grey"}.get(
            (shape[0], self.shape[0]), ""
        )
        change = "resized" if shape[1:] != self.shape[1:] else "brought"
        return f"images of {was} {change} to the network's {is_now} (bilinear, antialiased{colour})"

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ImageInputs:
        """The inverse of `to_json`."""
        numbers: dict[str, Any] = {
            key: tuple(map(int if key == "shape" else float, value)) for key, value in data.items()
        }
        return cls(**numbers)

    def check(self, arch: str) -> None:
        """Refuse a mean or standard deviation with a wrong number of values.

        Args:
            arch: the architecture's name, for the message.

        Raises:
            BadInput: `mean` or `std` has neither one value nor one per channel.
        """
        for what, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.shape[0]):
                raise BadInput(
                    f"architecture {arch!r}: {what} has {len(values)} values",
                    f"its images have {self.shape[0]} channels",
                    "Give one value per channel.",
                )


INPUTS: dict[str, type[Inputs]] = {one.kind: one for one in (ImageInputs, TextInputs, TokenInputs, SequenceInputs)}


def size_of(inputs: Inputs) -> int:
    """Number of values in one example."""
    return math.prod(inputs.shape)


def fit_images(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Convert images (n, c, h, w) to `shape` (c, h, w).

    They are resized by antialiased bilinear interpolation and clamped to [0, 1]. Grey is repeated to colour, and colour
    averaged to grey.
    """
    c, h, w = shape
    if images.shape[1] != c:
        images = (
            images.expand(-1, c, -1, -1)
            if images.shape[1] == 1
            else images.mean(dim=1, keepdim=True).expand(-1, c, -1, -1)
        )
    if tuple(images.shape[-2:]) != (h, w):
        images = F.interpolate(images, (h, w), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)
    return images.contiguous()
