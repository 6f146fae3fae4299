"""VGG with batch norm (Simonyan and Zisserman, arXiv 1409.1556; batch norm: Ioffe and Szegedy, arXiv 1502.03167)."""

from __future__ import annotations

from torch import nn

from popgen.archs.config import ArchConfig
from popgen.archs.families.staged import ConvNorm, Staged


def vgg(config: ArchConfig, widths: list[int], blocks: int) -> nn.Module:
    """Stages of 3x3 convolutions with batch norm and ReLU, each stage followed by 2x2 max pooling.

    Global average pooling and one linear layer stand in the place of the paper's three linear layers, which are for
    images of 224x224 pixels. Convolutions have no bias, because batch norm has one.

    Args:
        widths: channels of each stage.
        blocks: convolutions in each stage.
    """
    c_in, stages = config.inputs.shape[0], []
    for width in widths:
        layers = [ConvNorm(c_in if i == 0 else width, width, 3, activation=nn.ReLU) for i in range(blocks)]
        stages.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        c_in = width
    return Staged(nn.Identity(), stages, c_in, config.classes)
