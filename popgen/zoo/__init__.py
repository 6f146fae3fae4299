"""Zoos: folders of checkpoints with an index, and how they are built, imported and read.

The names below load their modules on first use, so that a wrong name can be refused before torch is imported.
"""

from typing import TYPE_CHECKING

from popgen.lazy import lazy

if TYPE_CHECKING:
    from popgen.configs.spec import ZooSpec
    from popgen.networks.train import train_network
    from popgen.zoo.build.build import build_zoo
    from popgen.zoo.record import Checkpoint
    from popgen.zoo.store import Zoo


__all__ = [
    "Checkpoint",
    "Zoo",
    "ZooSpec",
    "build_zoo",
    "train_network",
]

__getattr__ = lazy(
    __name__,
    {
        "popgen.configs.spec": ["ZooSpec"],
        "popgen.networks.train": ["train_network"],
        "popgen.zoo.build.build": ["build_zoo"],
        "popgen.zoo.record": ["Checkpoint"],
        "popgen.zoo.store": ["Zoo"],
    },
)
