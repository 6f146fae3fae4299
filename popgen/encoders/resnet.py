"""The ResNet image tower of a CLIP (Radford et al., arXiv 2103.00020), read from a folder in open_clip's format.

It computes what open_clip's class computes, bit for bit, from the same files. It differs in that it needs torch alone:
importing open_clip takes several seconds, and the encoder that ships with popgen is used at the start of every search.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

_EXPANSION = 4  # output channels of a block, in widths of its 3x3 convolution
_PREFIX = "visual."  # begins the names of the image tower's tensors in the file
_DOWNSAMPLING = 32  # factor from the image's side to that of the last feature map


class ClipResNet(nn.Module):
    """Maps prepared images (n, 3, side, side) to vectors (n, dim); `prepare` makes them from any images."""

    def __init__(self, model: dict[str, Any], preprocess: dict[str, Any]) -> None:
        super().__init__()
        vision = model["vision_cfg"]
        width, self.side = vision.get("width", 768), int(vision.get("image_size", 224))
        self.mean, self.std = torch.tensor(preprocess["mean"]), torch.tensor(preprocess["std"])
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        channels = width
        for stage, count in enumerate(vision["layers"]):
            inner = width * 2**stage
            first = _Block(channels, inner, stride=1 if stage == 0 else 2)
            channels = inner * _EXPANSION
            blocks = [first, *(_Block(channels, inner, stride=1) for _ in range(1, count))]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        heads = width * _DOWNSAMPLING // vision.get("head_width", 64)
        self.attnpool = _AttentionPool(self.side // _DOWNSAMPLING, channels, heads, model["embed_dim"])

    @staticmethod
    def reads(model: dict[str, Any], preprocess: dict[str, Any]) -> bool:
        """Whether this class computes the image tower of a configuration; open_clip has many others."""
        vision = model.get("vision_cfg", {})
        layers = vision.get("layers")
        known = {"layers", "width", "image_size", "head_width"}
        is_resnet = isinstance(layers, list) and len(layers) == 4 and set(vision) <= known
        squashed = preprocess.get("resize_mode") == "squash" and preprocess.get("interpolation") == "bicubic"
        sized = preprocess.get("size") in (None, vision.get("image_size")) and isinstance(vision.get("image_size"), int)
        return is_resnet and squashed and sized and {"mean", "std"} <= set(preprocess)

    @classmethod
    def load(cls, file: Path, model: dict[str, Any], preprocess: dict[str, Any]) -> ClipResNet:
        """Read the tower from a CLIP's safetensors file.

        Raises:
            RuntimeError, KeyError, OSError, ValueError: the file is damaged or has other tensors.
        """
        with torch.device("meta"):  # the parameters are replaced, so no random numbers are drawn for them
            tower = cls(model, preprocess)
        found = {name.removeprefix(_PREFIX): t for name, t in load_file(file).items() if name.startswith(_PREFIX)}
        # Copies are aligned in memory; with tensors that are not, products of single images differ in their last digit.
        tower.load_state_dict({name: tensor.clone() for name, tensor in found.items()}, assign=True)
        tower.mean, tower.std = torch.tensor(preprocess["mean"]), torch.tensor(preprocess["std"])
        return tower

    def prepare(self, images: Tensor) -> Tensor:
        """Resize images (n, 3, h, w) in [0, 1] to the tower's side and normalise them."""
        if images.shape[-2:] != (self.side, self.side):
            images = F.interpolate(images, (self.side, self.side), mode="bicubic", align_corners=False, antialias=True)
        mean, std = (values.to(images.device).view(-1, 1, 1) for values in (self.mean, self.std))
        return (images.clamp(0, 1) - mean) / std  # bicubic resizing leaves values slightly outside [0, 1]

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of images."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.avg_pool2d(F.relu(self.bn3(self.conv3(x))), 2)
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        pooled: Tensor = self.attnpool(x)
        return pooled


class _Block(nn.Module):
    """A bottleneck whose strides are average pools in front of convolutions."""

    def __init__(self, channels: int, inner: int, stride: int) -> None:
        super().__init__()
        out = inner * _EXPANSION
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(inner, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample = nn.Sequential()
        if stride > 1 or channels != out:
            self.downsample.add_module("-1", nn.AvgPool2d(stride))
            self.downsample.add_module("0", nn.Conv2d(channels, out, 1, bias=False))
            self.downsample.add_module("1", nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.pool(F.relu(self.bn2(self.conv2(out))))
        return F.relu(self.bn3(self.conv3(out)) + self.downsample(x))


class _AttentionPool(nn.Module):
    """Attention from the mean over all positions to the positions."""

    def __init__(self, side: int, width: int, heads: int, out: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.zeros(side**2 + 1, width))
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.c_proj = nn.Linear(width, out)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).permute(2, 0, 1)  # (positions, n, width)
        x = torch.cat([x.mean(dim=0, keepdim=True), x]) + self.positional_embedding[:, None]
        pooled, _ = F.multi_head_attention_forward(
            x,
            x,
            x,
            x.shape[-1],
            self.heads,
            in_proj_weight=None,
            in_proj_bias=torch.cat([self.q_proj.bias, self.k_proj.bias, self.v_proj.bias]),
            bias_k=None,
            bias_v=None,
            add_zero_attn=False,
            dropout_p=0.0,
            out_proj_weight=self.c_proj.weight,
            out_proj_bias=self.c_proj.bias,
            training=False,
            need_weights=False,
            use_separate_proj_weight=True,
            q_proj_weight=self.q_proj.weight,
            k_proj_weight=self.k_proj.weight,
            v_proj_weight=self.v_proj.weight,
        )
        return pooled[0]
