"""Networks by name: the built-in ones, each a name, a builder and its options, and those from outside (popgen.archs.outside).

`build(arch_config("cnn-s"))` gives a plain torch module. The CIFAR ResNets are those of He et al. 2016 (arXiv 1512.03385, section 4.2; shortcut A).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popgen.archs import outside
from popgen.archs.config import ArchConfig
from popgen.archs.inputs import ImageInputs, size_of
from popgen.archs.variants import parse_options, split_options
from popgen.errors import BadInput, brief, unknown_name
from popgen.tasks import CLASSIFICATION


def mlp(config: ArchConfig, hidden: list[int]) -> nn.Module:
    """Linear layers with ReLU between them, on the flattened image."""
    sizes = [size_of(config.inputs), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], config.classes))


def cnn(config: ArchConfig, channels: list[int]) -> nn.Module:
    """3x3 convolutions with ReLU, 2x2 max pooling after the first, one linear layer on what is left."""
    widths = [config.inputs.shape[0], *channels]
    layers: list[nn.Module] = []
    for i, (c_in, c_out) in enumerate(zip(widths, widths[1:], strict=False)):
        layers += [nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU()]
        if i == 0:
            layers.append(nn.MaxPool2d(2))
    pixels = (config.inputs.shape[1] // 2) * (config.inputs.shape[2] // 2)
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
    return _ResNet(config.inputs.shape[0], widths, blocks, config.classes, shortcut)


BUILDERS: dict[str, Callable[..., nn.Module]] = {"mlp": mlp, "cnn": cnn, "resnet": resnet}

_CIFAR = ImageInputs(
    (3, 32, 32), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
)  # ImageNet's, as is common for CIFAR ResNets


def _cifar_resnet(depth: int) -> ArchConfig:
    options = {"widths": [16, 32, 64], "blocks": (depth - 2) // 6, "shortcut": "A"}
    return ArchConfig(f"resnet{depth}", "resnet", options, _CIFAR)


ARCHITECTURES: dict[str, ArchConfig] = {
    "mlp-s": ArchConfig("mlp-s", "mlp", {"hidden": [64]}),
    "cnn-s": ArchConfig("cnn-s", "cnn", {"channels": [8, 16]}),
    "cnn-m": ArchConfig("cnn-m", "cnn", {"channels": [8, 16, 16]}),
    "resnet-s": ArchConfig("resnet-s", "resnet", {"widths": [8, 16], "blocks": 1, "shortcut": "B"}),
    **{f"resnet{depth}": _cifar_resnet(depth) for depth in (20, 32, 44, 56, 110)},
}


_OF_IMAGES = {"input_shape": "shape", "mean": "mean", "std": "std"}  # fields of ImageInputs, as specs name them


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
        config = ArchConfig.from_json({"name": name, "classes": 0, **fields})
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
    images = {new: tuple(fields.pop(old)) for old, new in _OF_IMAGES.items() if old in fields}
    config = replace(config, **fields)
    if isinstance(config.inputs, ImageInputs):
        inputs = replace(config.inputs, **images)
        inputs.check(config.name)
        config = replace(config, inputs=inputs)
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
    """Refuse a configuration whose network does not turn an example of its inputs into one output a class.

    Raises:
        BadInput: the network fails on the example, or has another number of outputs.

    >>> check_runs(arch_config("cnn-s"))
    """
    shape = "x".join(map(str, config.inputs.shape))
    try:
        outputs = build(config, seed=0).eval()(config.inputs.example())
    except (RuntimeError, ValueError, AssertionError, IndexError, NotImplementedError) as error:
        raise BadInput(
            f"architecture {config.name!r} does not run on {config.inputs.kind} of {shape}",
            brief(error),
            "Give its input_shape: channels, height, width.",
        ) from error
    found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    single = config.task == CLASSIFICATION
    wanted = (1, config.classes) if single else f"(1, ..., {config.classes})"
    if found != wanted if single else not (isinstance(outputs, Tensor) and outputs.shape[-1] == config.classes):
        raise BadInput(
            f"architecture {config.name!r} makes {found} of {config.inputs.kind} of {shape}",
            f"{wanted} was expected: one output a class",
            "Give its number of classes, or the option that sets it.",
        )


def with_classes(config: ArchConfig, classes: int) -> ArchConfig:
    """The same architecture with another number of outputs; options called classes or num_classes follow."""
    options = {key: classes if key in ("classes", "num_classes") else value for key, value in config.options.items()}
    return replace(config, classes=classes, options=options)
