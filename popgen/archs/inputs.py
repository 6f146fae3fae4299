"""What enters a network: how a data set's examples are prepared for it, and an example for tracing it.

Only the classes here know whether a network eats pixels or something else. A further kind is one more entry of INPUTS.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from popgen.errors import BadInput


class Inputs(Protocol):
    """One kind of inputs of a network."""

    kind: ClassVar[str]  # its key in INPUTS

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""

    def prepare(self, examples: Tensor) -> Tensor:
        """What the network eats, from a data set's examples (n, ...)."""

    def example(self, n: int = 1) -> Tensor:
        """A batch of `n` made-up prepared examples, always the same, for tracing."""

    def text(self) -> str:
        """The phrase in the architecture's canonical sentence."""

    def remark(self, shape: tuple[int, ...]) -> str:
        """What `prepare` does to examples of that shape, in words; empty where that is nothing a user should know of."""

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON types."""

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Inputs:
        """The inverse of `to_json`."""


@dataclass(frozen=True)
class ImageInputs:
    """Images in [0, 1], resized to `shape` and normalised: (x - mean) / std with one value a channel, or one for all."""

    kind: ClassVar[str] = "images"

    shape: tuple[int, int, int] = (1, 8, 8)  # channels, height, width
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def prepare(self, examples: Tensor) -> Tensor:
        """Images (n, c, h, w) at the network's size, normalised."""
        images = fit_images(examples, self.shape)
        mean, std = (torch.tensor(v, device=images.device).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return (images - mean) / std

    def example(self, n: int = 1) -> Tensor:
        """Uniform noise from a fixed seed."""
        return torch.rand(n, *self.shape, generator=torch.Generator().manual_seed(0))

    def text(self) -> str:
        """As in `input 3x32x32`."""
        return f"input {'x'.join(map(str, self.shape))}"

    def remark(self, shape: tuple[int, ...]) -> str:
        """How images of another shape are brought to the network's.

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
        """Refuse a mean or standard deviation that does not go with the channels.

        Raises:
            BadInput: neither one value nor one a channel.
        """
        for what, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.shape[0]):
                raise BadInput(
                    f"architecture {arch!r}: {what} has {len(values)} values",
                    f"its images have {self.shape[0]} channels",
                    "Give one value a channel.",
                )


INPUTS: dict[str, type[Inputs]] = {"images": ImageInputs}


def size_of(inputs: Inputs) -> int:
    """How many numbers one example has."""
    return math.prod(inputs.shape)


def fit_images(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Images at another shape: resized (bilinear, antialiased), grey repeated to colour, colour averaged to grey."""
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
