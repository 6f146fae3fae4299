"""The training checkpoints that networks are compared with, and the references: checkpoints of one data set, split by lineage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.audit.space import WeightSpace
from popgen.errors import BadInput
from popgen.types import Flat
from popgen.weights.streams import find_streams
from popgen.zoo import Checkpoint, Zoo
from popgen.zoo.aligned import align_records, share_a_start


@dataclass(frozen=True)
class Training:
    """The training checkpoints of one architecture, in the order of the zoo."""

    records: tuple[Checkpoint, ...]
    weights: Flat  # (m, p)
    aligned: Flat | None  # (m, p), units in one order; None where they correspond as they are, or cannot be aligned
    lineages: tuple[str, ...]  # each checkpoint is its own where all are of one
    one_lineage: bool  # whether all checkpoints are of one lineage, so that none are independent
    space: WeightSpace


def training_of(zoo: Zoo, spec: ArchSpec, arch: str, say: Callable[[str], None]) -> Training:
    """The training checkpoints of an architecture.

    Args:
        say: called with a line for whoever reads the verdict.

    Raises:
        BadInput: the zoo has fewer than two of them.
    """
    records = [record for record in zoo.select(arch=arch, held_out=False) if record.fingerprint == spec.fingerprint]
    if len(records) < 2:
        raise BadInput(
            f"the zoo {zoo.name!r} has {len(records)} training checkpoints of {arch!r}",
            "an audit compares networks with two or more",
            "Name another zoo with --zoo, or another architecture with --arch.",
        )
    weights, aligned = zoo.matrix(records), None
    permutable = True
    try:
        find_streams(spec)
    except BadInput as error:
        permutable = False
        say(f"{arch}: distances are not modulo permutation: {error.what}")
    if permutable and not all(share_a_start(record, records[0]) for record in records):
        aligned = torch.stack([one.weights for one in align_records(zoo, records, records[0])])
    lineages = tuple(record.lineage for record in records)
    one_lineage = len(set(lineages)) == 1
    if one_lineage:
        say(f"{arch}: all training checkpoints are of one lineage, so nothing shows how far apart independent ones are")
        lineages = tuple(record.id for record in records)
    space = WeightSpace(spec, weights, lineages, aligned, permutable)
    return Training(tuple(records), weights, aligned, lineages, one_lineage, space)


@dataclass(frozen=True)
class Group:
    """The references of a data set: its own checkpoints, or those of the zoo's data set that does best on it."""

    data: str  # the data set that they were trained on
    near: tuple[int, ...]  # indices of its training checkpoints
    order: tuple[int, ...]  # indices of all training checkpoints: this data set's first, then the most accurate ones
    references: tuple[Checkpoint, ...]  # its checkpoints of training and those held out
    held_out: tuple[Checkpoint, ...]

    def lineages(self, training: Training) -> list[str]:
        """The lineage of each reference, or its id where all training checkpoints are of one lineage."""
        return [record.id if training.one_lineage else record.lineage for record in self.references]


def find_group(zoo: Zoo, training: Training, data: str, val_accuracy: Tensor, most: int) -> Group:
    """The references for a data set.

    Args:
        val_accuracy: (m,), accuracy of each training checkpoint on the data set's validation images.
        most: references at most, evenly spaced among all of them.
    """
    names = [record.data for record in training.records]
    if data not in names:
        means = {name: float(val_accuracy[[i for i, n in enumerate(names) if n == name]].mean()) for name in names}
        data = max(means, key=means.__getitem__)
    near = tuple(i for i, name in enumerate(names) if name == data)
    rest = sorted((i for i in range(len(names)) if i not in near), key=lambda i: -float(val_accuracy[i]))
    first = training.records[0]
    held_out = tuple(r for r in zoo.select(first.arch, data, held_out=True) if r.fingerprint == first.fingerprint)
    known = [*(training.records[i] for i in near), *held_out]
    chosen = known if len(known) <= most else [known[i * len(known) // most] for i in range(most)]
    return Group(data, near, (*near, *rest), tuple(chosen), held_out)
