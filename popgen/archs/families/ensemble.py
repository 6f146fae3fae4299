"""Networks of one architecture side by side: what enters their heads is joined, and one head reads all of it.

With the members' own heads, each divided by their number, the outputs are the means of the members' outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from popgen.archs.config import ArchConfig
from popgen.json_text import json_text, parse_json

MOST = 64  # members
_NO_MEMBERS = ("ensemble", "lora")  # builders whose networks are no members


class Ensemble(nn.Module):
    """The networks without their heads, and one head over the features of all of them.

    Args:
        networks: networks of one architecture, whose outputs are those of their linear layer `head`.
        classes: outputs of the one head.
    """

    head_name = "head"

    def __init__(self, networks: Sequence[nn.Module], head: str, classes: int) -> None:
        super().__init__()
        width = 0
        for network in networks:
            own = dict(network.named_modules())[head]
            if not isinstance(own, nn.Linear):
                raise TypeError(f"its module {head!r} is {type(own).__name__}, not a linear layer")
            width += own.in_features
            parent, _, leaf = head.rpartition(".")
            setattr(network.get_submodule(parent), leaf, nn.Identity())
        self.networks = nn.ModuleList(networks)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs (n, classes)."""
        return self.head(torch.cat([network(x) for network in self.networks], dim=1))


def ensemble_config(member: ArchConfig, head: str, count: int) -> ArchConfig:
    """The configuration of `count` networks side by side.

    Args:
        member: that of each of them.
        head: name of their last linear layer.

    >>> ensemble_config(ArchConfig("mlp-s", "mlp", {"hidden": [64]}), "3", 2).name
    'mlp-s-x2'
    """
    options = {"member": parse_json(json_text(member.to_json())), "head": head, "count": count}
    return ArchConfig(f"{member.name}-x{count}", "ensemble", options, member.inputs, member.classes, member.task)


def member_config(member: dict[str, object], count: int) -> ArchConfig:
    """The configuration of a member, as the options of an ensemble have it.

    Raises:
        ValueError: a number of members, or a kind of member, that is not built.
    """
    if not 1 <= count <= MOST:
        raise ValueError(f"it has {count} members, and from 1 to {MOST} are built")
    config = ArchConfig.from_json(member)
    if config.builder.startswith(_NO_MEMBERS):
        raise ValueError(f"its members are of the kind {config.builder!r}")
    return config


def joined_state(states: Sequence[dict[str, Tensor]], head: str) -> dict[str, Tensor]:
    """The state dict of an ensemble whose outputs are the means of its members' outputs.

    Args:
        states: those of the members.
        head: name of their last linear layer; a head without bias adds none.
    """
    own = f"{head}."
    joined = {
        f"networks.{i}.{name}": tensor
        for i, state in enumerate(states)
        for name, tensor in state.items()
        if not name.startswith(own)
    }
    weights = [state[f"{own}weight"] for state in states]
    none = torch.zeros(len(weights[0]))
    biases = [state.get(f"{own}bias", none) for state in states]
    mean = {"head.weight": torch.cat(weights, 1) / len(states), "head.bias": torch.stack(biases).mean(0)}
    return {**joined, **mean}
