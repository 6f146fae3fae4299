"""The training runs of a zoo's spec, and the training of one network, in this process or in a worker."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from popgen.archs import ArchConfig, ArchSpec, arch_config, build, check_runs
from popgen.configs.spec import ZooSpec
from popgen.data import load_data
from popgen.data.load import check_data_name, split_name
from popgen.errors import BadInput
from popgen.networks.train import train_network
from popgen.types import StateDict
from popgen.zoo.record import Checkpoint
from popgen.zoo.store import Zoo


@dataclass(frozen=True)
class TrainingRun:
    """One network to train: its architecture, data set and seed."""

    arch: str
    data: str
    seed: int

    @property
    def id(self) -> str:
        return f"{self.arch}/{self.data}/s{self.seed}"


@dataclass(frozen=True)
class TrainedNetwork:
    """The result of a training run: weights (p,), metrics, and the names of the classes."""

    run: TrainingRun
    weights: Tensor
    metrics: dict[str, float]
    classes: tuple[str, ...]


class Trainer:
    """Trains the networks of a spec; keeps architectures and starts, so that each process makes them once.

    Args:
        zoo_spec: the spec of the zoo.
        starts: the shared start (p,) of each architecture; None: they are made as `zoo.start` says.
        data_dir: the folder of named data sets; None: POPGEN_DATA, else ./data.
    """

    def __init__(self, zoo_spec: ZooSpec, starts: dict[str, Tensor] | None = None, data_dir: str | None = None) -> None:
        self.zoo_spec, self.data_dir = zoo_spec, data_dir
        if starts is not None:
            self.starts = starts

    @cached_property
    def specs(self) -> dict[str, ArchSpec]:
        return {name: ArchSpec.from_config(config) for name, config in arch_configs(self.zoo_spec).items()}

    @cached_property
    def starts(self) -> dict[str, Tensor]:
        """The start (p,) that all networks of an architecture share; empty if the spec wants none.

        Raises:
            NotFound, BadInput: the checkpoint to start from does not exist, or has another architecture.
        """
        if self.zoo_spec.start is None:
            return {}
        if isinstance(self.zoo_spec.start, str):
            state = _checkpoint(self.zoo_spec.start)
            for spec in self.specs.values():
                spec.check(state, self.zoo_spec.start)
            return {name: spec.to_flat(state) for name, spec in self.specs.items()}
        return {n: s.to_flat(build(s.config, seed=self.zoo_spec.start).state_dict()) for n, s in self.specs.items()}

    def runs(self) -> list[TrainingRun]:
        """Return all training runs, ordered by data set, so that a worker reads few data sets at a time."""
        zoo = self.zoo_spec
        return [TrainingRun(name, data, seed) for data in zoo.data_names for name in self.specs for seed in zoo.seeds]

    def check(self) -> None:
        """Refuse a spec with an architecture or a data set that does not exist or does not fit; reads each source once.

        Raises:
            NotFound, BadInput: the message names it, and the nearest known names.
        """
        for name in self.zoo_spec.data_names:
            check_data_name(name)
        for arch in self.specs.values():
            check_runs(arch.config)
        for source in dict.fromkeys(split_name(name)[0] for name in self.zoo_spec.data_names):
            classes = len(load_data(source, self.data_dir).classes)
            for name, arch in self.specs.items():
                if arch.config.classes != classes:
                    have = f"architecture {name!r} has {arch.config.classes} outputs"
                    raise BadInput(
                        f"{have}, data set {source!r} has {classes} classes",
                        "a zoo's networks have one output per class",
                        f"In the spec: archs: [{{name: {name}-{classes}, like: {name}, classes: {classes}}}]",
                    )

    def train(self, run: TrainingRun) -> TrainedNetwork:
        """Train one network; its weights depend only on the run, the recipe and the start."""
        arch, data = self.specs[run.arch], load_data(run.data, self.data_dir)
        start = arch.to_state(self.starts[run.arch]) if run.arch in self.starts else None
        state, metrics = train_network(arch, data, self.zoo_spec.recipe, start=start, seed=run.seed)
        return TrainedNetwork(run, arch.to_flat(state), metrics, data.classes)

    def record(self, trained: TrainedNetwork) -> Checkpoint:
        """Return the checkpoint's record; each training run is a lineage of its own."""
        run = trained.run
        return Checkpoint(
            id=run.id,
            arch=run.arch,
            arch_config=self.specs[run.arch].config,
            data=run.data,
            classes=trained.classes,
            lineage=run.id,
            parent=None if self.zoo_spec.start is None else f"start:{self.zoo_spec.start}",
            seed=run.seed,
            held_out=self.zoo_spec.is_held_out(run.data, run.seed),
            metrics=trained.metrics,
            source=f"popgen zoo build {self.zoo_spec.name}",
            licence=self.zoo_spec.licence,
        )


def _checkpoint(reference: str) -> StateDict:
    """Return the weights of the checkpoint that is named as ZOO#ID."""
    folder, mark, checkpoint = reference.partition("#")
    if not mark or not checkpoint:
        raise BadInput(
            f"zoo.start is {reference!r}",
            "a start is a seed, null, or a zoo's folder and a checkpoint in it",
            "For example zoos/cifar_resnets#resnet20/cifar10/resnet20_akamaster.",
        )
    zoo = Zoo.open(folder)
    return zoo.state(zoo.record(checkpoint))


def arch_configs(zoo_spec: ZooSpec) -> dict[str, ArchConfig]:
    """Return the configuration of each architecture of a spec, by its name in the zoo.

    >>> spec = ZooSpec(name="z", archs=[{"name": "cnn-3", "like": "cnn-s", "classes": 3}], data=["digits"])
    >>> arch_configs(spec)["cnn-3"].classes
    3
    """
    return {entry.name: arch_config(entry.like or entry.name, **entry.replaced) for entry in zoo_spec.archs}
