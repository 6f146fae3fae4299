"""Networks by name: the built-in ones, each a name, a builder and its options, and those from outside (popgen.archs.outside).

`build(arch_config("cnn-s"))` gives a plain torch module. The CIFAR ResNets are those of He et al. 2016 (arXiv 1512.03385, section 4.2; shortcut A).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popgen.archs import outside
from popgen.archs.variants import parse_options, split_options
from popgen.errors import BadInput, brief, unknown_name
from popgen.refs import is_trusted, trust


@dataclass(frozen=True)
class ArchConfig:
    """Everything needed to build a network and to feed it: JSON in, JSON out."""

    name: str
    builder: str  # a key of BUILDERS, or `module:function`, `timm:NAME`, `hub:OWNER/REPO:ENTRY`
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
        said = ("num_classes", "in_chans", "img_size") if outside.is_outside(self.builder) else ()  # follows anyway
        options = sorted((key, value) for key, value in self.options.items() if key not in said)
        parts = [f"{key.replace('_', ' ')} {_plain(value)}" for key, value in options]
        shape = "x".join(map(str, self.input_shape))
        return ", ".join([outside.words(self.builder), *parts, f"input {shape}", f"{self.classes} classes"])

    def __hash__(self) -> int:
        return hash(repr(self))  # options may hold lists, which have no hash of their own

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (self.to_json(), is_trusted(self.builder))


def _received(data: dict[str, Any], trusted: bool) -> ArchConfig:
    """A configuration in a worker: what the user has named in the process that sent it is named here."""
    if trusted:
        trust(data["builder"])
    return ArchConfig.from_json(data)


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


def arch_config(name: str, known: dict[str, ArchConfig] | None = None, /, **given: Any) -> ArchConfig:
    """The configuration behind an architecture's name: built-in, one of `known`, or from outside.

    From outside come `timm:NAME`, `hub:OWNER/REPO:ENTRY`, `hub:FOLDER:ENTRY` and `module:function`, a callable that returns an
    nn.Module. The code behind a name given here may run.

    Other options stand behind the name: `cnn-s/channels:12-24`, `timm:resnet18/in_chans:1`. The configuration's name is then all of it.

    Args:
        given: fields to replace: name, options (added to its own), input_shape, classes, mean, std.

    Raises:
        NotFound: nothing of that name, or no such option; the message lists the nearest.
        BadInput: a value that does not fit, or a network from outside that does not say what images it takes.
        Offline: a repository that is not at hand.

    >>> arch_config("cnn-s").options
    {'channels': [8, 16]}
    >>> arch_config("cnn-s/channels:12-24", name="wide", classes=3).options
    {'channels': [12, 24]}
    """
    table = {**ARCHITECTURES, **(known or {})}
    if name in table:
        return _replaced(table[name], given)
    if outside.is_outside(name):
        fields = outside.fields(name, given)
        config = ArchConfig(**{"name": name, "classes": 0, **fields})
        if not config.classes:  # as many as its last linear layer has
            heads = [m.out_features for m in build(config).modules() if isinstance(m, nn.Linear)]
            config = replace(config, classes=given.get("classes") or (heads[-1] if heads else ArchConfig.classes))
        return _replaced(config, {key: value for key, value in given.items() if key != "options"})
    base, options = split_options(name)
    if options:
        config = arch_config(base, known)
        return _replaced(replace(config, name=name, options=parse_options(name, config.options)), given)
    raise unknown_name(
        "architecture",
        name,
        table,
        "Name a built-in one, timm:NAME, hub:OWNER/REPO:ENTRY, or a function that returns an nn.Module as module:function.",
    )


def _replaced(config: ArchConfig, given: dict[str, Any]) -> ArchConfig:
    """The configuration with the given fields; options are added to its own."""
    fields = {**given, "options": {**config.options, **given.get("options", {})}}
    classes = fields.pop("classes", config.classes)
    config = replace(config, **fields)
    for what in ("mean", "std"):
        values, channels = getattr(config, what), config.input_shape[0]
        if len(values) not in (1, channels):
            raise BadInput(
                f"architecture {config.name!r}: {what} has {len(values)} values",
                f"its images have {channels} channels",
                "Give one value a channel.",
            )
    return config if classes == config.classes else with_classes(config, classes)


def build(config: ArchConfig | str, seed: int | None = None) -> nn.Module:
    """A network, freshly initialised; `seed` makes the initial weights reproducible.

    Raises:
        NotFound: no such architecture.
        NotTrusted: its code is a repository's, and the user has not named it.
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
            if outside.is_outside(config.builder):
                net = outside.network(config.builder, config.options)
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


@torch.no_grad()
def check_runs(config: ArchConfig) -> None:
    """Refuse a configuration whose network does not turn one image of its input shape into one output a class.

    Raises:
        BadInput: the network fails on such an image, or has another number of outputs.

    >>> check_runs(arch_config("cnn-s"))
    """
    shape = "x".join(map(str, config.input_shape))
    try:
        outputs = build(config, seed=0).eval()(torch.zeros(1, *config.input_shape))
    except (RuntimeError, ValueError, AssertionError, IndexError, NotImplementedError) as error:
        raise BadInput(
            f"architecture {config.name!r} does not run on images of {shape}",
            brief(error),
            "Give its input_shape: channels, height, width.",
        ) from error
    found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if found != (1, config.classes):
        raise BadInput(
            f"architecture {config.name!r} makes {found} of an image of {shape}",
            f"(1, {config.classes}) was expected: one output a class",
            "Give its number of classes, or the option that sets it.",
        )


def with_classes(config: ArchConfig, classes: int) -> ArchConfig:
    """The same architecture with another number of outputs; options called classes or num_classes follow."""
    options = {key: classes if key in ("classes", "num_classes") else value for key, value in config.options.items()}
    return replace(config, classes=classes, options=options)
