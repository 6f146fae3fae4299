"""The names of architectures: the built-in ones with their configurations as JSON, and what a wrong name is answered with.

Nothing here imports torch, so that an unknown name is refused at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from popgen.archs.elsewhere import known_elsewhere
from popgen.archs.variants import split_options
from popgen.errors import NotFound, unknown_name
from popgen.refs import is_module_attr

# The mean and standard deviation are ImageNet's, as is common for CIFAR ResNets.
_CIFAR = {"input_shape": [3, 32, 32], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def _cifar_resnet(depth: int) -> dict[str, Any]:
    options = {"widths": [16, 32, 64], "blocks": (depth - 2) // 6, "shortcut": "A"}
    return {"builder": "resnet", "options": options, **_CIFAR}


BUILT_IN: dict[str, dict[str, Any]] = {
    "mlp-s": {"builder": "mlp", "options": {"hidden": [64]}},
    "cnn-s": {"builder": "cnn", "options": {"channels": [8, 16]}},
    "cnn-m": {"builder": "cnn", "options": {"channels": [8, 16, 16]}},
    "resnet-s": {"builder": "resnet", "options": {"widths": [8, 16], "blocks": 1, "shortcut": "B"}},
    "vgg-s": {"builder": "vgg", "options": {"widths": [8, 24, 48], "blocks": 2}, **_CIFAR},
    "mobilenetv2-s": {
        "builder": "mobilenetv2",
        "options": {"stem": 16, "stem_stride": 2, "widths": [16, 24, 40], "blocks": 2, "expansion": 3, "last": 128},
        **_CIFAR,
    },
    "shufflenetv2-s": {
        "builder": "shufflenetv2",
        "options": {"stem": 24, "stem_stride": 2, "widths": [48, 96], "blocks": 2, "last": 128},
        **_CIFAR,
    },
    "repvgg-s": {"builder": "repvgg", "options": {"stem_stride": 2, "widths": [16, 24, 48], "blocks": 2}, **_CIFAR},
    **{f"resnet{depth}": _cifar_resnet(depth) for depth in (20, 32, 44, 56, 110)},
}


WITH_WEIGHTS = ("lm:", "hf:")  # first parts of the names that bring weights; split_options knows them, too


def brings_weights(name: str) -> bool:
    """Whether an architecture's name brings weights, which transformers reads.

    >>> brings_weights("hf:models/tiny"), brings_weights("timm:resnet18")
    (True, False)
    """
    return name.startswith(WITH_WEIGHTS)


def is_outside(name: str) -> bool:
    """Whether a name, with or without options, means a network from outside.

    >>> is_outside("timm:resnet18/in_chans:1"), is_outside("my.nets:make"), is_outside("cnn-s/channels:8-8")
    (True, True, False)
    """
    return name.startswith(("timm:", "hub:", *WITH_WEIGHTS)) or is_module_attr(split_options(name)[0])


def unknown_arch(name: str, known: Iterable[str]) -> NotFound:
    """Return the error for a name that is neither among `known` nor from outside."""
    todo = (
        "Name a built-in one, timm:NAME, hub:OWNER/REPO:ENTRY, hf:NAME, lm:BASE, lora:BASE, "
        "or a function that returns an nn.Module as module:function."
    )
    return _unknown("architecture", name, known, todo)


def not_trained(name: str, trained: Iterable[str]) -> NotFound:
    """Return the error for a name that is not one of the architectures that a generator was trained on."""
    todo = "`popgen train` makes a generator for other architectures."
    return unknown_name("architecture in this generator", name, trained, todo)


def unknown_to_generator(name: str, trained: Iterable[str]) -> NotFound:
    """Return the error for a name that a generator, which was trained on these architectures, does not know."""
    todo = "Other sizes of these are written like cnn-s/channels:12-24; `popgen train` makes a generator for others."
    return _unknown("architecture in this generator", name, trained, todo)


def _unknown(kind: str, name: str, known: Iterable[str], todo: str) -> NotFound:
    """Return the error that offers what timm, torchvision or a clone of torch.hub calls `name`, else the nearest known."""
    elsewhere = known_elsewhere(name)
    if not elsewhere:
        return unknown_name(kind, name, known, todo)
    return NotFound(f"there is no {kind} called {name!r}", f"known elsewhere: {', '.join(elsewhere)}", todo)
