"""Built-in networks, each a name, a builder and its options.

`build(arch_config("cnn-s"))` gives a plain torch module. Any other network is named as `module:function`, a callable
that returns an nn.Module. The CIFAR ResNets are those of He et al. 2016 (arXiv 1512.03385, section 4.2; shortcut A).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popgen.archs.variants import parse_options, split_options
from popgen.errors import BadInput, unknown_name
from popgen.refs import is_module_attr, load_attr


@dataclass(frozen=True)
class ArchConfig:
    """Everything needed to build a network and to feed it: JSON in, JSON out."""

    name: str
    builder: str  # a key of BUILDERS, or `module:function`
    options: dict[str, Any] = field(default_factory=dict)
    input_shape: tuple[int, int, int] = (1, 8, 8)  # channels, height, width
    classes: int = 10
    mean: tuple[float, ...] = (0.0,)  # images in [0, 1] become (x - mean) / std, per channel
    std: tuple[float, ...] = (1.0,)

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ArchConfig:
        """The inverse of `to_json`."""
        tuples: dict[str, Any] = {key: tuple(data[key]) for key in ("input_shape", "mean", "std") if key in data}
        return cls(**{**data, **tuples})

    def text(self) -> str:
        """The canonical sentence that the architecture encoder reads.

        >>> arch_config("mlp-s").text()
        'mlp network, hidden 64, input 1x8x8, 10 classes'
        """
        parts = [f"{key.replace('_', ' ')} {_plain(value)}" for key, value in sorted(self.options.items())]
        shape = "x".join(map(str, self.input_shape))
        return ", ".join([f"{self.builder} network", *parts, f"input {shape}", f"{self.classes} classes"])


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def mlp(config: ArchConfig, hidden: list[int]) -> nn.Module:
    """Linear layers with ReLU between them, on the flattened image."""
    sizes = [math.prod(config.input_shape), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], config.classes))


def cnn(config: ArchConfig, channels: list[int]) -> nn.Module:
    """3x3 convolutions with ReLU, 2x2 max pooling after the first, one linear layer on what is left."""
    widths = [config.input_shape[0], *channels]
    layers: list[nn.Module] = []
    for i, (c_in, c_out) in enumerate(zip(widths, widths[1:], strict=False)):
        layers += [nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU()]
        if i == 0:
            layers.append(nn.MaxPool2d(2))
    pixels = (config.input_shape[1] // 2) * (config.input_shape[2] // 2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * pixels, config.classes))


class _Block(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut: A (subsample, pad with zeros) or B (1x1 convolution)."""

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
    """A 3x3 stem, stages of residual blocks (each but the first halves the image), global average pooling."""

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
    """A residual network with batch norm for small images."""
    return _ResNet(config.input_shape[0], widths, blocks, config.classes, shortcut)


BUILDERS: dict[str, Callable[..., nn.Module]] = {"mlp": mlp, "cnn": cnn, "resnet": resnet}

_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_CIFAR = {"input_shape": (3, 32, 32), **_IMAGENET}


def _cifar_resnet(depth: int) -> ArchConfig:
    options = {"widths": [16, 32, 64], "blocks": (depth - 2) // 6, "shortcut": "A"}
    return ArchConfig(f"resnet{depth}", "resnet", options, **_CIFAR)  # type: ignore[arg-type]


ARCHITECTURES: dict[str, ArchConfig] = {
    "mlp-s": ArchConfig("mlp-s", "mlp", {"hidden": [64]}),
    "cnn-s": ArchConfig("cnn-s", "cnn", {"channels": [8, 16]}),
    "cnn-m": ArchConfig("cnn-m", "cnn", {"channels": [8, 16, 16]}),
    "resnet-s": ArchConfig("resnet-s", "resnet", {"widths": [8, 16], "blocks": 1, "shortcut": "B"}),
    **{f"resnet{depth}": _cifar_resnet(depth) for depth in (20, 32, 44, 56, 110)},
}


def arch_config(name: str, known: dict[str, ArchConfig] | None = None) -> ArchConfig:
    """The configuration behind an architecture's name: built-in, one of `known`, or `module:function`.

    Other options stand behind the name: `cnn-s/channels:12-24`. The configuration's name is then all of it.

    Raises:
        NotFound: nothing of that name, or no such option; the message lists the nearest.
        BadInput: an option's value that does not fit.

    >>> arch_config("cnn-s").options
    {'channels': [8, 16]}
    >>> arch_config("cnn-s/channels:12-24").options
    {'channels': [12, 24]}
    """
    table = {**ARCHITECTURES, **(known or {})}
    if name in table:
        return table[name]
    base, options = split_options(name)
    if options:
        config = arch_config(base, known)
        return replace(config, name=name, options=parse_options(name, config.options))
    if is_module_attr(name):
        load_attr(name)
        return ArchConfig(name, name)
    raise unknown_name(
        "architecture", name, table, "Name a built-in one, or a function that returns an nn.Module as module:function."
    )


def build(config: ArchConfig | str, seed: int | None = None) -> nn.Module:
    """A network, freshly initialised; `seed` makes the initial weights reproducible.

    Raises:
        NotFound: no such architecture.
        BadInput: the builder refuses its options, or does not return an nn.Module.

    >>> sum(p.numel() for p in build("cnn-s").parameters())
    3818
    """
    if isinstance(config, str):
        config = arch_config(config)
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        try:
            if is_module_attr(config.builder):
                net = load_attr(config.builder)(**config.options)
            elif config.builder in BUILDERS:
                net = BUILDERS[config.builder](config, **config.options)
            else:
                raise unknown_name("network builder", config.builder, BUILDERS)
        except TypeError as error:
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


def with_classes(config: ArchConfig, classes: int) -> ArchConfig:
    """The same architecture with another number of outputs; options called classes or num_classes follow."""
    options = {key: classes if key in ("classes", "num_classes") else value for key, value in config.options.items()}
    return replace(config, classes=classes, options=options)
