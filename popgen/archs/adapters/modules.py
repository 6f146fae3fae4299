"""Modules under dotted paths, so that a state dict has the names of another network's."""

from __future__ import annotations

from torch import nn


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
