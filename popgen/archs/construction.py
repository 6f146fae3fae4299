"""Networks from names or configurations: `build(arch_config("cnn-s"))` gives a plain torch module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from popgen.archs.builders import construct
from popgen.archs.config import ArchConfig
from popgen.archs.named import arch_config
from popgen.errors import BadInput, brief
from popgen.tasks import CLASSIFICATION


def build(config: ArchConfig | str, seed: int | None = None) -> nn.Module:
    """Build a network with fresh initial weights.

    Args:
        config: the configuration, or the architecture's name.
        seed: makes the initial weights reproducible; the global random generator is left as it was.

    Raises:
        NotFound: no architecture or builder has this name.
        NotTrusted: the builder is code from outside that the user has not named.
        BadInput: the builder refuses its options, or does not return an nn.Module.

    >>> sum(p.numel() for p in build("cnn-s").parameters())
    3818
    """
    return construct(arch_config(config) if isinstance(config, str) else config, seed)


@torch.no_grad()
def check_runs(config: ArchConfig) -> None:
    """Refuse a configuration whose network does not turn an example of its inputs into one output per class.

    Raises:
        BadInput: the network fails on the example, or returns outputs of another shape.

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
    if config.task == CLASSIFICATION:
        wanted: tuple[int, int] | str = (1, config.classes)
        fits = found == wanted
    else:
        wanted = f"(1, ..., {config.classes})"
        fits = isinstance(outputs, Tensor) and outputs.shape[-1] == config.classes
    if not fits:
        raise BadInput(
            f"architecture {config.name!r} makes {found} of {config.inputs.kind} of {shape}",
            f"{wanted} was expected: one output per class",
            "Give its number of classes, or the option that sets it.",
        )
