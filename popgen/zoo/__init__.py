"""Zoos: folders of checkpoints with an index, and how they are built, imported and read.

The names below load their modules on first use, so that a wrong name can be refused before torch is imported.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from popgen.configs.spec import ZooSpec
    from popgen.networks.train import train_network
    from popgen.zoo.build.build import build_zoo
    from popgen.zoo.record import Checkpoint
    from popgen.zoo.store import Zoo

_PUBLIC = {
    "Checkpoint": "popgen.zoo.record",
    "Zoo": "popgen.zoo.store",
    "ZooSpec": "popgen.configs.spec",
    "build_zoo": "popgen.zoo.build.build",
    "train_network": "popgen.networks.train",
}

__all__ = [
    "Checkpoint",
    "Zoo",
    "ZooSpec",
    "build_zoo",
    "train_network",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
