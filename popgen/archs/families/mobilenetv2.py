"""MobileNetV2 (Sandler et al., arXiv 1801.04381): inverted residuals with depthwise convolutions."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from popgen.archs.config import ArchConfig
from popgen.archs.families.staged import ConvNorm, Staged, make_stages


class _InvertedResidual(nn.Module):
    """A 1x1 convolution to more channels, a depthwise 3x3 convolution, and a linear 1x1 convolution to fewer channels.

    The input is added where the shape stays the same.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = c_in * expansion
        self.expand = nn.Identity() if expansion == 1 else ConvNorm(c_in, inner, 1, activation=nn.ReLU6)
        self.depthwise = ConvNorm(inner, inner, 3, stride, groups=inner, activation=nn.ReLU6)
        self.project = ConvNorm(inner, c_out, 1)
        self.is_residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.is_residual else y


def mobilenetv2(
    config: ArchConfig, stem: int, stem_stride: int, widths: list[int], blocks: int, expansion: int, last: int
) -> nn.Module:
    """A 3x3 convolution, stages of inverted residuals, a 1x1 convolution, and a linear head; ReLU6 throughout.

    Args:
        stem, stem_stride: channels and stride of the first convolution.
        widths: channels between the blocks of each stage.
        blocks: blocks in each stage.
        expansion: channels inside a block, in multiples of its input's; 1 in the first stage.
        last: channels of the last convolution.
    """
    first = make_stages(stem, widths[:1], blocks, partial(_InvertedResidual, expansion=1))
    later = make_stages(stem, widths, blocks, partial(_InvertedResidual, expansion=expansion))[1:]
    return Staged(
        ConvNorm(config.inputs.shape[0], stem, 3, stem_stride, activation=nn.ReLU6),
        [*first, *later],
        last,
        config.classes,
        ConvNorm(widths[-1], last, 1, activation=nn.ReLU6),
    )
