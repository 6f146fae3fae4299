"""The networks of a spec, and how one of them is made; the same in this process and in any worker."""

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
class Job:
    """One network to train."""

    arch: str
    data: str
    seed: int

    @property
    def id(self) -> str:
        return f"{self.arch}/{self.data}/s{self.seed}"


@dataclass(frozen=True)
class Done:
    """A trained network: its weights (p,), metrics, and the names of its classes."""

    job: Job
    weights: Tensor
    metrics: dict[str, float]
    classes: tuple[str, ...]


class Trainer:
    """Trains the jobs of a spec; keeps architectures and starts, so that each is made once a process.

    Args:
        starts: the shared start (p,) of each architecture; None makes them from the spec's seed.
        data_dir: the folder of named data sets; None: POPGEN_DATA, else ./data.
    """

    def __init__(self, spec: ZooSpec, starts: dict[str, Tensor] | None = None, data_dir: str | None = None) -> None:
        self.spec, self.data_dir = spec, data_dir
        if starts is not None:
            self.starts = starts

    @cached_property
    def specs(self) -> dict[str, ArchSpec]:
        return {name: ArchSpec.from_config(config) for name, config in arch_configs(self.spec).items()}

    @cached_property
    def starts(self) -> dict[str, Tensor]:
        """The shared start of each architecture; empty when the spec wants none.

        Raises:
            NotFound, BadInput: the checkpoint to start from is not there, or is of another architecture.
        """
        if self.spec.start is None:
            return {}
        if isinstance(self.spec.start, str):
            state = _checkpoint(self.spec.start)
            for spec in self.specs.values():
                spec.check(state, self.spec.start)
            return {name: spec.to_flat(state) for name, spec in self.specs.items()}
        return {n: s.to_flat(build(s.config, seed=self.spec.start).state_dict()) for n, s in self.specs.items()}

    def jobs(self) -> list[Job]:
        """Every network, data set by data set, so that a worker reads few of them at a time."""
        spec = self.spec
        return [Job(name, data, seed) for data in spec.data_names for name in self.specs for seed in spec.seeds]

    def check(self) -> None:
        """Refuse a spec whose architectures or data sets do not exist or fit; reads each source once.

        Raises:
            NotFound, BadInput: which one, and the nearest names.
        """
        for name in self.spec.data_names:
            check_data_name(name)
        for arch in self.specs.values():
            check_runs(arch.config)
        for source in dict.fromkeys(split_name(name)[0] for name in self.spec.data_names):
            classes = len(load_data(source, self.data_dir).classes)
            for name, arch in self.specs.items():
                if arch.config.classes != classes:
                    have = f"architecture {name!r} has {arch.config.classes} outputs"
                    raise BadInput(
                        f"{have}, data set {source!r} has {classes} classes",
                        "a zoo's networks have one output a class",
                        f"In the spec: archs: [{{name: {name}-{classes}, like: {name}, classes: {classes}}}]",
                    )

    def train(self, job: Job) -> Done:
        """Train one network; nothing but the job, the recipe and the start decides its weights."""
        arch, data = self.specs[job.arch], load_data(job.data, self.data_dir)
        start = arch.to_state(self.starts[job.arch]) if job.arch in self.starts else None
        state, metrics = train_network(arch, data, self.spec.recipe, start=start, seed=job.seed)
        return Done(job, arch.to_flat(state), metrics, data.classes)

    def record(self, done: Done) -> Checkpoint:
        """The checkpoint's record; each network is a training run, and so a lineage, of its own."""
        job = done.job
        return Checkpoint(
            id=job.id,
            arch=job.arch,
            arch_config=self.specs[job.arch].config,
            data=job.data,
            classes=done.classes,
            lineage=job.id,
            parent=None if self.spec.start is None else f"start:{self.spec.start}",
            seed=job.seed,
            held_out=self.spec.is_held_out(job.data, job.seed),
            metrics=done.metrics,
            source=f"popgen zoo build {self.spec.name}",
            licence=self.spec.licence,
        )


def _checkpoint(reference: str) -> StateDict:
    """The weights that ZOO#ID stands for."""
    folder, mark, checkpoint = reference.partition("#")
    if not mark or not checkpoint:
        raise BadInput(
            f"zoo.start is {reference!r}",
            "a start is a seed, null, or a zoo's folder and a checkpoint in it",
            "For example zoos/cifar_resnets#resnet20/cifar10/resnet20_akamaster.",
        )
    zoo = Zoo.open(folder)
    return zoo.state(zoo.record(checkpoint))


def arch_configs(spec: ZooSpec) -> dict[str, ArchConfig]:
    """The configuration of each architecture of a spec, by its name in the zoo.

    >>> spec = ZooSpec(name="z", archs=[{"name": "cnn-3", "like": "cnn-s", "classes": 3}], data=["digits"])
    >>> arch_configs(spec)["cnn-3"].classes
    3
    """
    return {entry.name: arch_config(entry.like or entry.name, **entry.replaced) for entry in spec.archs}
