"""RepVGG as it is trained (Ding et al., arXiv 2101.03697): 3x3, 1x1 and identity branches, each with its batch norm.

After training the three branches of a block are one 3x3 convolution. Here they stay apart, because the zoo's networks
are trained further; `popgen.networks.folding` folds the batch norms of the first two.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from popgen.archs.config import ArchConfig
from popgen.archs.families.staged import ConvNorm, Staged, make_stages


class _Block(nn.Module):
    """ReLU of the sum of three branches; without the identity where the shape changes."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.dense = ConvNorm(c_in, c_out, 3, stride)
        self.pointwise = ConvNorm(c_in, c_out, 1, stride)
        self.has_identity = stride == 1 and c_in == c_out
        if self.has_identity:
            self.identity = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dense(x) + self.pointwise(x)
        return F.relu(y + self.identity(x) if self.has_identity else y)


def repvgg(config: ArchConfig, stem_stride: int, widths: list[int], blocks: int) -> nn.Module:
    """A stem of one block, stages of blocks, global average pooling and a linear head.

    Args:
        stem_stride: stride of the stem.
        widths: channels of each stage; the stem has those of the first.
        blocks: blocks in each stage.
    """
    stem = _Block(config.inputs.shape[0], widths[0], stem_stride)
    return Staged(stem, make_stages(widths[0], widths, blocks, _Block), widths[-1], config.classes)
