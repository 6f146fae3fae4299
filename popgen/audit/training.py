"""The training checkpoints that networks are compared with, and the references: checkpoints of one data set, split by lineage.

References are the zoo's own checkpoints, each compared with other lineages, or those of another zoo, which the generator was not
trained on. A zoo of one lineage has no others: unless another zoo gives references, its snapshots stand for independent networks, which
can convict, because independent networks lie farther apart than snapshots of one run, but cannot acquit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.audit.space import Beside, WeightSpace
from popgen.errors import BadInput
from popgen.types import Flat
from popgen.weights.align import align
from popgen.weights.streams import find_streams
from popgen.zoo import Checkpoint, Zoo
from popgen.zoo.aligned import align_records, share_a_start


@dataclass(frozen=True)
class Training:
    """The training checkpoints of one architecture, in the order of the zoo."""

    records: tuple[Checkpoint, ...]
    weights: Flat  # (m, p)
    aligned: Flat | None  # (m, p), units in one order; None where they correspond as they are, or cannot be aligned
    lineages: tuple[str, ...]  # each checkpoint is its own where all are of one, and no other zoo gives references
    one_lineage: bool  # whether all checkpoints are of one lineage, and there is no other to be independent of it
    space: WeightSpace


@dataclass(frozen=True)
class Outside:
    """Networks of one architecture from another zoo, as references that no generator was trained on."""

    zoo: Zoo
    records: tuple[Checkpoint, ...]

    @property
    def lineages(self) -> list[str]:
        """The lineage of each, under a name that no training checkpoint has."""
        return [f"{self.zoo.name}: {record.lineage}" for record in self.records]


def find_outside(zoo: Zoo, spec: ArchSpec, training: Zoo) -> Outside:
    """The networks of an architecture, by its tensors, in a zoo of references.

    Raises:
        BadInput: there are none, or one of them is a training checkpoint.
    """
    records = tuple(record for record in zoo.records if record.fingerprint == spec.fingerprint)
    if not records:
        raise BadInput(
            f"the zoo of references {zoo.name!r} has no networks of {spec.name!r}",
            f"it has {', '.join(zoo.archs) or 'none'}; their tensors are compared, not their names",
            "Train references of this architecture, or name another zoo with --reference-zoo.",
        )
    known = {record.sha256 for record in training.select(held_out=False)}
    shared = [record.id for record in records if record.sha256 in known]
    if shared:
        raise BadInput(
            f"{len(shared)} of {len(records)} references are training checkpoints, such as {shared[0]}",
            "references are networks that the generator was not trained on",
            "Train them with other seeds than those of the zoo.",
        )
    return Outside(zoo, records)


def training_of(
    zoo: Zoo, spec: ArchSpec, arch: str, say: Callable[[str], None], outside: Outside | None = None
) -> Training:
    """The training checkpoints of an architecture.

    Args:
        say: called with a line for whoever reads the verdict.
        outside: the references where they are those of another zoo.

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
    apart = None if outside is None else outside.zoo.matrix(outside.records)
    permutable = True
    try:
        find_streams(spec)
    except BadInput as error:
        permutable = False
        say(f"{arch}: distances are not modulo permutation: {error.what}")
    if permutable and not all(share_a_start(record, records[0]) for record in records):
        aligned = torch.stack([one.weights for one in align_records(zoo, records, records[0])])
    if permutable and apart is not None:
        apart = torch.stack([align(spec, flat, weights[0]).weights for flat in apart])
    lineages = tuple(record.lineage for record in records)
    one_lineage = len(set(lineages)) == 1 and outside is None
    if one_lineage:
        say(
            f"{arch}: all training checkpoints are of one lineage, so nothing shows how far apart independent ones are; "
            "--reference-zoo names some"
        )
        lineages = tuple(record.id for record in records)
    beside = None if apart is None or outside is None else Beside(apart, outside.lineages)
    space = WeightSpace(spec, weights, lineages, aligned, permutable, beside)
    return Training(tuple(records), weights, aligned, lineages, one_lineage, space)


@dataclass(frozen=True)
class Group:
    """The references of a data set: its own checkpoints, or those of the zoo's data set that does best on it."""

    data: str  # the data set that they were trained on
    near: tuple[int, ...]  # indices of its training checkpoints
    order: tuple[int, ...]  # indices of all training checkpoints: this data set's first, then the most accurate ones
    references: tuple[Checkpoint, ...]  # its checkpoints of training and those held out, or those of another zoo
    lineages: tuple[str, ...]  # the lineage of each reference, or its id where nothing is independent
    zoo: Zoo  # where the references are
    held_out: tuple[Checkpoint, ...]


def find_group(
    zoo: Zoo, training: Training, data: str, val_accuracy: Tensor, most: int, outside: Outside | None = None
) -> Group:
    """The references for a data set.

    Args:
        val_accuracy: (m,), accuracy of each training checkpoint on the data set's validation images.
        most: references at most, evenly spaced among all of them.
        outside: where another zoo has them.

    Raises:
        BadInput: the other zoo has none for this data set.
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
    names = [record.id if training.one_lineage else record.lineage for record in known]
    if outside is not None:
        pairs = [pair for pair in zip(outside.records, outside.lineages, strict=True) if pair[0].data == data]
        if not pairs:
            raise BadInput(
                f"the zoo of references {outside.zoo.name!r} has no networks of {first.arch!r} for {data!r}",
                f"it has them for {', '.join(sorted({record.data for record in outside.records}))}",
                "Train references for this data set.",
            )
        known, names = [record for record, _ in pairs], [name for _, name in pairs]
    kept = range(len(known)) if len(known) <= most else [i * len(known) // most for i in range(most)]
    references, lineages = tuple(known[i] for i in kept), tuple(names[i] for i in kept)
    found_in = zoo if outside is None else outside.zoo
    return Group(data, near, (*near, *rest), references, lineages, found_in, held_out)
