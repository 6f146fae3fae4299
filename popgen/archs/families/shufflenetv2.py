"""ShuffleNetV2 (Ma et al., arXiv 1807.11164, figure 3 c and d): half of the channels pass, and channels are shuffled."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from popgen.archs.config import ArchConfig
from popgen.archs.families.staged import ConvNorm, Staged, make_stages


class _Unit(nn.Module):
    """A 1x1, a depthwise 3x3 and a 1x1 convolution on one half of the channels, beside the other half, then a shuffle.

    With stride 2 both halves are made of all channels of the input; the other half by a depthwise and a 1x1 convolution.
    """

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        half = c_out // 2
        self.splits = stride == 1
        if c_out % 2 or (self.splits and c_in != c_out):
            raise ValueError(f"a unit with stride {stride} from {c_in} to {c_out} channels; widths are even")
        self.pass_depthwise = nn.Identity() if self.splits else ConvNorm(c_in, c_in, 3, stride, groups=c_in)
        self.pass_pointwise = nn.Identity() if self.splits else ConvNorm(c_in, half, 1, activation=nn.ReLU)
        self.pointwise = ConvNorm(half if self.splits else c_in, half, 1, activation=nn.ReLU)
        self.depthwise = ConvNorm(half, half, 3, stride, groups=half)
        self.project = ConvNorm(half, half, 1, activation=nn.ReLU)

    def forward(self, x: Tensor) -> Tensor:
        passed, changed = x.chunk(2, dim=1) if self.splits else (x, x)
        passed = self.pass_pointwise(self.pass_depthwise(passed))
        changed = self.project(self.depthwise(self.pointwise(changed)))
        both = torch.cat([passed, changed], dim=1)
        return both.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def shufflenetv2(
    config: ArchConfig, stem: int, stem_stride: int, widths: list[int], blocks: int, last: int
) -> nn.Module:
    """A 3x3 convolution, stages of units whose first halves the image, a 1x1 convolution, and a linear head.

    Args:
        stem, stem_stride: channels and stride of the first convolution; the paper's max pooling behind it is left out.
        widths: channels of each stage, even.
        blocks: units in each stage.
        last: channels of the last convolution.
    """
    # The stem takes the place of the first stage, so that every stage of units begins with stride 2, as in the paper.
    stages = make_stages(stem, [stem, *widths], blocks, _Unit)[1:]
    return Staged(
        ConvNorm(config.inputs.shape[0], stem, 3, stem_stride, activation=nn.ReLU),
        stages,
        last,
        config.classes,
        ConvNorm(widths[-1], last, 1, activation=nn.ReLU),
    )
