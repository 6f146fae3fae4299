"""Zoos: folders of checkpoints with an index, and how they are built, imported and read."""

from popgen.configs.spec import ZooSpec
from popgen.networks.train import train_network
from popgen.zoo.build.build import build_zoo
from popgen.zoo.record import Checkpoint
from popgen.zoo.store import Zoo

__all__ = ["Checkpoint", "Zoo", "ZooSpec", "build_zoo", "train_network"]
