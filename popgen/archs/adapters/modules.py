"""Modules under dotted paths, so that a state dict has the names of another network's."""

from __future__ import annotations

from typing import Any

from torch import nn

from popgen.errors import BadInput


def add_module(root: nn.Module, path: str, module: nn.Module) -> None:
    """Register a module under a dotted path, with plain modules between.

    >>> root = nn.Module()
    >>> add_module(root, "a.b", nn.Linear(1, 1, bias=False))
    >>> list(root.state_dict())
    ['a.b.weight']
    """
    *parents, leaf = path.split(".")
    for parent in parents:
        if parent not in dict(root.named_children()):
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(leaf, module)


def hold_children(net: nn.Module, model: Any) -> None:
    """Make a model's children those of `net`, which can call all of the model as `net.__dict__["model_of_all"]`.

    Raises:
        BadInput: the model has tensors beside those of its children.

    >>> net = nn.Module()
    >>> hold_children(net, nn.Sequential(nn.Linear(1, 1, bias=False)))
    >>> list(net.state_dict())
    ['0.weight']
    """
    if own := [name for name in model.state_dict() if "." not in name]:
        raise BadInput(
            f"a {type(model).__name__} has weights outside its layers", ", ".join(own[:4]), "Name another model."
        )
    for name, child in model.named_children():
        net.add_module(name, child)
    net.__dict__["model_of_all"] = model  # calls the children, and is none of them
