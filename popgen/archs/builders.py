"""The built-in networks, one builder function for each family, and `construct`, which calls a configuration's builder.

The residual networks are those of He et al. 2016 (arXiv 1512.03385, section 4.2), with shortcut A or B. Further families of
convolutional networks are in popgen.archs.families.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popgen.archs import outside
from popgen.archs.adapters.absent import AdapterWithoutBase
from popgen.archs.adapters.base import check_base
from popgen.archs.adapters.config import WITHOUT_BASE
from popgen.archs.adapters.network import adapter_network
from popgen.archs.config import ArchConfig
from popgen.archs.families import mobilenetv2, repvgg, shufflenetv2, vgg
from popgen.archs.families.ensemble import Ensemble, member_config
from popgen.archs.inputs import size_of
from popgen.archs.names import is_outside
from popgen.errors import BadInput, unknown_name


def mlp(config: ArchConfig, hidden: list[int]) -> nn.Module:
    """Multilayer perceptron on the flattened image, with ReLU after each hidden layer."""
    sizes = [size_of(config.inputs), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], config.classes))


def cnn(config: ArchConfig, channels: list[int]) -> nn.Module:
    """Convolutional network: 3x3 convolutions with ReLU, 2x2 max pooling after the first, and a linear head."""
    widths = [config.inputs.shape[0], *channels]
    layers: list[nn.Module] = []
    for i, (c_in, c_out) in enumerate(zip(widths, widths[1:], strict=False)):
        layers += [nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU()]
        if i == 0:
            layers.append(nn.MaxPool2d(2))
    pixels = (config.inputs.shape[1] // 2) * (config.inputs.shape[2] // 2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * pixels, config.classes))


class _Block(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut.

    Where the shape changes, shortcut A subsamples the input and pads its channels with zeros, and shortcut B is a
    strided 1x1 convolution with batch norm.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.stride, self.grow = stride, c_out - c_in
        self.shortcut: nn.Module = nn.Sequential()
        if shortcut == "B" and (stride != 1 or c_in != c_out):
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if len(self.shortcut) == 0 and (self.stride != 1 or self.grow):  # type: ignore[arg-type]
            half = self.grow // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.grow - half))
            return F.relu(y + x)
        return F.relu(y + self.shortcut(x))


class _ResNet(nn.Module):
    """A 3x3 stem, stages of residual blocks, global average pooling and a linear head.

    Each stage but the first halves the height and width of its input.
    """

    def __init__(self, c_in: int, widths: list[int], blocks: int, classes: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        width, stages = widths[0], []
        for stage, out in enumerate(widths):
            strides = [1 if stage == 0 else 2] + [1] * (blocks - 1)
            stage_blocks = []
            for stride in strides:
                stage_blocks.append(_Block(width, out, stride, shortcut))
                width = out
            stages.append(nn.Sequential(*stage_blocks))
        for i, stage_module in enumerate(stages, start=1):
            self.add_module(f"layer{i}", stage_module)
        self.stages = len(stages)
        self.linear = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for i in range(1, self.stages + 1):
            x = getattr(self, f"layer{i}")(x)
        return self.linear(x.mean(dim=(2, 3)))


def resnet(config: ArchConfig, widths: list[int], blocks: int, shortcut: str = "A") -> nn.Module:
    """Residual network with batch norm for small images.

    Args:
        widths: channels of each stage.
        blocks: residual blocks in each stage.
        shortcut: "A" or "B".
    """
    return _ResNet(config.inputs.shape[0], widths, blocks, config.classes, shortcut)


def lora(config: ArchConfig, base: str, base_sha256: str, **options: Any) -> nn.Module:
    """LoRA on the upper layers of a frozen transformer, see popgen.archs.adapters.network."""
    check_base(base, base_sha256)
    return adapter_network(base, context=config.inputs.context, **options)  # type: ignore[attr-defined]


def lora_without_base(config: ArchConfig, base: str, tensors: dict[str, list[int]], **_: Any) -> nn.Module:  # noqa: ARG001
    """LoRA whose base is not here; it can be kept and not run."""
    return AdapterWithoutBase(base, tensors)


def ensemble(config: ArchConfig, member: dict[str, object], head: str, count: int) -> nn.Module:
    """Networks of one architecture side by side under one head, see popgen.archs.families.ensemble."""
    one = member_config(member, count)
    seeds = torch.randint(2**31, (count,)).tolist()
    return Ensemble([construct(one, seed) for seed in seeds], head, config.classes)


# A builder takes the configuration and, as keyword arguments, the configuration's options.
_MOST_PARAMETERS = 2**28  # 1 GB in float32
BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet": resnet,
    "vgg": vgg,
    "mobilenetv2": mobilenetv2,
    "shufflenetv2": shufflenetv2,
    "repvgg": repvgg,
    "ensemble": ensemble,
    "lora": lora,
    WITHOUT_BASE: lora_without_base,
}


def _check_size(config: ArchConfig) -> None:
    """Refuse sizes that no file of popgen means, before any memory is taken: a damaged file may state any."""
    if config.builder in ("lora", "ensemble"):
        return  # its size is that of a network that exists, or of members that are checked one by one
    with torch.device("meta"):
        net = BUILDERS[config.builder](config, **config.options)
    count = sum(parameter.numel() for parameter in net.parameters())
    if count > _MOST_PARAMETERS:
        raise ValueError(f"it would have {count:,} parameters, and at most {_MOST_PARAMETERS:,} are built")


def construct(config: ArchConfig, seed: int | None = None) -> nn.Module:
    """Call the builder of a configuration, whether built-in or from outside.

    The global random generator is left as it was.

    Args:
        seed: makes the initial weights reproducible.

    Raises:
        NotFound: the builder does not exist.
        NotTrusted: the builder is code from outside that the user has not named.
        BadInput: the builder refuses its options, or does not return an nn.Module.
    """
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        try:
            if is_outside(config.builder):
                net = outside.network(config.builder, config.options)
            elif config.builder in BUILDERS:
                _check_size(config)
                net = BUILDERS[config.builder](config, **config.options)
            else:
                raise unknown_name("network builder", config.builder, BUILDERS)
        except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError) as error:
            raise BadInput(
                f"architecture {config.name!r}: the builder {config.builder!r} does not take these options",
                f"options {config.options}: {error}",
                "Correct them in the spec.",
            ) from error
    if not isinstance(net, nn.Module):
        raise BadInput(
            f"architecture {config.name!r}: {config.builder} returned {type(net).__name__}",
            "an architecture is a callable that returns a torch.nn.Module",
            "Return the module itself.",
        )
    return net
