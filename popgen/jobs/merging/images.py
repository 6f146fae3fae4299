"""The data sets of a merge: unlabelled images of each expert, and the scores of a network on all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.archs.inputs import ImageInputs
from popgen.configs.merge import MergeConfig
from popgen.data import DataSet
from popgen.data.unlabelled import load_images
from popgen.errors import BadInput
from popgen.networks.passes import Passes
from popgen.tasks import get_task, goodness
from popgen.zoo import Checkpoint

OWN = "own"  # the data set that each expert was trained on


@dataclass(frozen=True)
class Task:
    """A data set, and the networks' architecture with its classes."""

    spec: ArchSpec
    data: DataSet

    @cached_property
    def _passes(self) -> dict[str, Passes]:
        prepare = self.spec.config.inputs.prepare
        return {split: Passes(self.spec, prepare(getattr(self.data, split).inputs)) for split in ("val", "test")}

    def score(self, flat: Tensor, split: str) -> float:
        """Score of a network (p,) on `val` or `test`, in the unit of its task."""
        targets: Tensor = getattr(self.data, split).targets
        return get_task(self.spec.config.task).score(self._passes[split].outputs(flat), targets)


@dataclass(frozen=True)
class Tasks:
    """The data sets that a merged network is for; without labels there are no scores."""

    names: list[str]  # as the user named them, or as the experts' records do
    tasks: list[Task]
    inputs: list[Tensor]  # prepared training images of each, in the same order
    labelled: bool
    spec: ArchSpec  # the networks' architecture, with the outputs of the data sets where all of them have the same

    @property
    def unit(self) -> str:
        """The unit of scores."""
        return get_task(self.spec.config.task).unit

    def scores(self, flat: Tensor, split: str) -> list[float]:
        """Scores of a network (p,) on each data set."""
        return [task.score(flat, split) for task in self.tasks]

    def goodness(self, flat: Tensor) -> float:
        """The mean validation score over the data sets, as a number of which a higher one is better."""
        return fmean(goodness(self.unit, score) for score in self.scores(flat, "val"))


def load_tasks(
    config: MergeConfig, spec: ArchSpec, records: list[Checkpoint], say: Callable[[str], None]
) -> Tasks | None:
    """Load the data sets of a merge; None where none is named.

    Raises:
        BadInput: their number is neither one nor that of the experts, or the networks cannot read them.
        PopgenError: as `popgen.data.load.load_data`.
    """
    names = [record.data for record in records] if config.data == [OWN] else config.data
    if not names:
        return None
    if len(names) not in (1, len(records)):
        raise BadInput(
            f"{len(names)} data sets are named for {len(records)} experts",
            "images are of each expert's own data, or the same for all",
            "Name one data set, as many as experts in their order, or `own` for those in the experts' records.",
        )
    classes = records[0].classes or tuple(map(str, range(spec.config.classes)))
    side = spec.config.inputs.shape[-1] if isinstance(spec.config.inputs, ImageInputs) else None
    loaded = [load_images(name, classes, side, config.data_dir) for name in names]
    for data, _ in loaded:
        if data.task != spec.config.task:
            what = f"data set {data.name!r} is for {data.task}"
            raise BadInput(what, f"the experts' task is {spec.config.task}", "Name data for that.")
    of_phrases = spec.is_adapter and spec.config.options.get("head") == "phrases"
    strange = [
        data for data, labelled in loaded if labelled and not of_phrases and not _fits(data, records[0].classes, spec)
    ]
    for data in strange:
        say(f"{data.name}: its classes ({', '.join(data.classes[:5])}, ...) are not the networks'; labels are not used")
    tasks = [Task(spec.for_classes(data.label_phrases), data) for data, _ in loaded]
    same = all(task.spec == tasks[0].spec for task in tasks)
    inputs = [spec.config.inputs.prepare(_drawn(data.train.inputs, config)) for data, _ in loaded]
    labelled = not strange and all(labelled for _, labelled in loaded)
    return Tasks(names, tasks, inputs, labelled, tasks[0].spec if same else spec)


def _fits(data: DataSet, classes: tuple[str, ...], spec: ArchSpec) -> bool:
    return data.classes == classes if classes else len(data.classes) == spec.config.classes


def _drawn(inputs: Tensor, config: MergeConfig) -> Tensor:
    """At most `config.images` inputs, in a random order that the seed fixes."""
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(config.seed))
    return inputs[order[: config.images]]
