"""What the families share: a convolution with batch norm, and a network of a stem, stages of blocks and a linear head."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn


class ConvNorm(nn.Module):
    """A convolution without bias that keeps the size of the image but for its stride, batch norm, and an activation."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        activation: type[nn.Module] = nn.Identity,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(c_out)
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        """The activated outputs (n, c_out, height / stride, width / stride) of images (n, c_in, height, width)."""
        out: Tensor = self.activation(self.bn(self.conv(x)))
        return out


class Staged(nn.Module):
    """A stem, stages called layer1, layer2, ..., an optional last layer, global average pooling and a linear head."""

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[nn.Sequential],
        features: int,
        classes: int,
        last: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.stem = stem
        for i, stage in enumerate(stages, start=1):
            self.add_module(f"layer{i}", stage)
        self.stages = len(stages)
        self.last = last or nn.Identity()
        self.linear = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """The logits (n, classes) of images (n, channels, height, width)."""
        x = self.stem(x)
        for i in range(1, self.stages + 1):
            x = getattr(self, f"layer{i}")(x)
        out: Tensor = self.linear(self.last(x).mean(dim=(2, 3)))
        return out


def make_stages(
    c_in: int, widths: Sequence[int], blocks: int, block: Callable[[int, int, int], nn.Module]
) -> list[nn.Sequential]:
    """Return a stage of `blocks` blocks for each width; the first block of every stage but the first has stride 2.

    Args:
        c_in: channels of the first block's inputs.
        block: makes a block from its channels in, its channels out and its stride.
    """
    stages = []
    for stage, c_out in enumerate(widths):
        made = []
        for i in range(blocks):
            made.append(block(c_in, c_out, 2 if stage and i == 0 else 1))
            c_in = c_out
        stages.append(nn.Sequential(*made))
    return stages
