"""The training runs of a zoo's spec and how each is carried out, alike in the main process and in a worker."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from popgen.archs import ArchConfig, ArchSpec, arch_config, build, check_runs
from popgen.archs.outside import pretrained_state
from popgen.configs.spec import Recipe, ZooSpec
from popgen.data import load_data
from popgen.data.images.variants import parse_variant
from popgen.data.load import check_data_name, split_name
from popgen.errors import BadInput
from popgen.networks.train import train_snapshots
from popgen.zoo.record import Checkpoint
from popgen.zoo.refer import find_checkpoint, only_checkpoint

PRETRAINED = "pretrained"  # the start from the weights that come with an architecture
_FORMS = "a start is a seed, null, pretrained, a zoo's folder, or"


@dataclass(frozen=True)
class TrainingRun:
    """The training of one network, identified by three values; recipe and start are the spec's."""

    arch: str  # name of the architecture in the zoo
    data: str  # name of the data set
    seed: int  # decides the order of the images, and without a shared start the initial weights

    @property
    def id(self) -> str:
        """Id of the resulting checkpoint, such as cnn-s/digits/rotate:15/s0, and of its lineage."""
        return f"{self.arch}/{self.data}/s{self.seed}"

    def ids(self, recipe: Recipe) -> list[str]:
        """Ids of all checkpoints that the run leaves, the trained network's last."""
        steps = range((recipe.snapshots - 1) * recipe.snapshot_every, -1, -recipe.snapshot_every)
        return [snapshot_id(self, left) for left in steps]


def snapshot_id(run: TrainingRun, steps_left: int) -> str:
    """The run's id for its last step, and such as cnn-s/digits/s0/end-10 for 10 steps before."""
    return f"{run.id}/end-{steps_left}" if steps_left else run.id


@dataclass(frozen=True)
class TrainedNetwork:
    """A result of a training run: its last state, or an earlier snapshot."""

    id: str
    run: TrainingRun
    weights: Tensor  # (p,), in the architecture's order
    metrics: dict[str, float]  # as `popgen.networks.train.train_network` returns them
    classes: tuple[str, ...]  # name of each output


class Trainer:
    """Trains the networks of a zoo's spec; architectures and starts are computed once and kept.

    Args:
        starts: the shared start (p,) of each architecture, by its name; None computes them as the spec says.
        data_dir: folder of named data sets; None takes POPGEN_DATA, or if that is not set ./data.
    """

    def __init__(self, zoo_spec: ZooSpec, starts: dict[str, Tensor] | None = None, data_dir: str | None = None) -> None:
        self.zoo_spec, self.data_dir = zoo_spec, data_dir
        if starts is not None:
            self.starts = starts

    @cached_property
    def arch_specs(self) -> dict[str, ArchSpec]:
        """The ArchSpec of each architecture, by its name in the zoo."""
        return {name: ArchSpec.from_config(config) for name, config in arch_configs(self.zoo_spec).items()}

    @cached_property
    def starts(self) -> dict[str, Tensor]:
        """The shared start (p,) of each architecture, by its name; empty if each network has a start of its own.

        Raises:
            NotFound, BadInput: the checkpoint to start from does not exist, or is of another architecture.
        """
        start = self.zoo_spec.start
        if start is None:
            return {}
        if start == PRETRAINED:
            return {name: _pretrained(arch_spec) for name, arch_spec in self.arch_specs.items()}
        if isinstance(start, str) and "#" not in start:
            return {name: _from_zoo(start, arch_spec) for name, arch_spec in self.arch_specs.items()}
        if isinstance(start, str):
            zoo, record = find_checkpoint(start, "zoo.start", _FORMS)
            state = zoo.state(record)
            for arch_spec in self.arch_specs.values():
                arch_spec.check(state, start)
            return {name: arch_spec.to_flat(state) for name, arch_spec in self.arch_specs.items()}
        return {
            name: arch_spec.to_flat(build(arch_spec.config, seed=start).state_dict())
            for name, arch_spec in self.arch_specs.items()
        }

    @cached_property
    def bases(self) -> dict[str, Tensor]:
        """The trained network (p,) that each start goes back to; empty if the start is no checkpoint, or has other classes.

        Raises:
            NotFound, BadInput: as `starts`.
        """
        start = self.zoo_spec.start
        if start == PRETRAINED:
            return self.starts
        if not isinstance(start, str) or "#" not in start:
            return {}  # a zoo's checkpoints may have other classes, so that their start is no trained network
        zoo, record = find_checkpoint(start, "zoo.start", _FORMS)
        base = zoo.base(record.arch) if (record.parent or "").startswith("start:") else None
        return self.starts if base is None else dict.fromkeys(self.starts, base)

    def runs(self) -> list[TrainingRun]:
        """Every training run, grouped by data set, so that a worker holds few data sets at a time."""
        seeds = self.zoo_spec.seeds
        return [
            TrainingRun(name, data, seed)
            for data in self.zoo_spec.data_names
            for name in self.arch_specs
            for seed in seeds
        ]

    def check(self) -> tuple[str, ...]:
        """Refuse a spec whose architectures or data sets do not exist or fit; each source, with its classes, is loaded once.

        Returns:
            what was read of the sources and what was passed over, a line each.

        Raises:
            NotFound, BadInput: the message names the first that does not, and the nearest known names.
        """
        for name in self.zoo_spec.data_names:
            check_data_name(name)
        for arch_spec in self.arch_specs.values():
            check_runs(arch_spec.config)
        for names in self.zoo_spec.recipe.variants:
            for name in names.split("/"):
                parse_variant(name)
        remarks: list[str] = []
        for source in dict.fromkeys(_without_variants(name) for name in self.zoo_spec.data_names):
            data = load_data(source, self.data_dir)
            remarks += [f"{source}: {text}" for text in data.remarks]
            classes = len(data.classes)
            for name, arch_spec in self.arch_specs.items():
                outputs = arch_spec.for_classes(data.label_phrases).config.classes
                if outputs != classes:
                    raise BadInput(
                        f"architecture {name!r} has {outputs} outputs, data set {source!r} has {classes} classes",
                        "a network needs one output for each class",
                        f"In the spec: archs: [{{name: {name}-{classes}, like: {name}, classes: {classes}}}]",
                    )
        return tuple(remarks)

    def train(self, run: TrainingRun) -> list[TrainedNetwork]:
        """Train one network, and return its snapshots; weights depend on the run, the recipe and the start alone."""
        arch_spec, data = self.arch_specs[run.arch], load_data(run.data, self.data_dir)
        start = arch_spec.to_state(self.starts[run.arch]) if run.arch in self.starts else None
        kept = train_snapshots(arch_spec, data, self.zoo_spec.recipe, start=start, seed=run.seed)
        return [
            TrainedNetwork(snapshot_id(run, s.steps_left), run, arch_spec.to_flat(s.state), s.metrics, data.classes)
            for s in kept
        ]

    def record(self, network: TrainedNetwork) -> Checkpoint:
        """The index record of a trained network; each training run is a lineage of its own."""
        run, zoo_spec = network.run, self.zoo_spec
        return Checkpoint(
            id=network.id,
            arch=run.arch,
            arch_config=self.arch_specs[run.arch].config,
            data=run.data,
            classes=network.classes,
            lineage=run.id,
            parent=_parent(zoo_spec.start, run.arch),
            seed=run.seed,
            held_out=zoo_spec.is_held_out(run.data, run.seed, arch=run.arch),
            metrics=network.metrics,
            source=f"popgen zoo build {zoo_spec.name}",
            licence=zoo_spec.licence,
        )


def _without_variants(data: str) -> str:
    """The name of a data set's source with the classes that it is restricted to.

    >>> _without_variants("digits/rotate:45/classes:1+7/shots:5"), _without_variants("digits/invert")
    ('digits/classes:1+7', 'digits')
    """
    source, changes = split_name(data)
    return "/".join([source, *(change for change in changes if change.startswith("classes:"))])


def _parent(start: int | str | None, arch: str) -> str | None:
    """What a network's record says about its start."""
    if isinstance(start, str) and start != PRETRAINED and "#" not in start:
        start = f"{start}#{only_checkpoint(start, arch, 'zoo.start')[1].id}"
    return None if start is None else f"start:{start}"


def _from_zoo(folder: str, arch_spec: ArchSpec) -> Tensor:
    """The weights (p,) of a zoo's only checkpoint of an architecture; a head for another number of classes is drawn anew."""
    zoo, record = only_checkpoint(folder, arch_spec.name, "zoo.start")
    state = zoo.state(record)
    if arch_spec.head and zoo.spec(record.arch).config.classes != arch_spec.config.classes:
        fresh = build(arch_spec.config, seed=0).state_dict()
        state = {**state, **{name: tensor for name, tensor in fresh.items() if name.startswith(f"{arch_spec.head}.")}}
    arch_spec.check(state, f"{folder}#{record.id}")
    return arch_spec.to_flat(state)


def _pretrained(arch_spec: ArchSpec) -> Tensor:
    """The weights (p,) that come with an architecture."""
    state = pretrained_state(arch_spec.config.builder, arch_spec.config.options)
    arch_spec.check(state, arch_spec.config.builder)
    return arch_spec.to_flat(state)


def arch_configs(zoo_spec: ZooSpec) -> dict[str, ArchConfig]:
    """The configuration of each architecture of a zoo's spec, by its name in the zoo.

    >>> zoo_spec = ZooSpec(name="z", archs=[{"name": "cnn-3", "like": "cnn-s", "classes": 3}], data=["digits"])
    >>> arch_configs(zoo_spec)["cnn-3"].classes
    3
    """
    return {entry.name: arch_config(entry.like or entry.name, **entry.replaced) for entry in zoo_spec.archs}
