"""Checkpoints of a zoo with their units permuted to match one of them, so that weights can be averaged and compared.

The permutations are found by `popgen.weights.align`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from popgen.types import Images
from popgen.weights.align import Aligned, align
from popgen.zoo.record import Checkpoint
from popgen.zoo.store import Zoo


def share_a_start(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two networks share a lineage or parent, or one is the other's parent, so that their units correspond."""
    ids = {one.id, other.id}
    return (
        one.lineage == other.lineage
        or (one.parent is not None and one.parent == other.parent)
        or one.parent in ids
        or other.parent in ids
    )


def align_records(
    zoo: Zoo, records: Sequence[Checkpoint], reference: Checkpoint, inputs: Images | None = None
) -> list[Aligned]:
    """Align the checkpoints of one architecture with a reference; those that share its start keep their weights.

    Args:
        records: records of the reference's architecture.
        inputs: prepared images on which units are matched; None matches by weights, see `popgen.weights.align.align`.

    Returns:
        One Aligned for each record, in order. For a checkpoint that keeps its weights, both distances are the norm of
        the difference from the reference, divided by the reference's norm.

    Raises:
        BadInput: the architecture cannot be aligned.
    """
    spec, target = zoo.spec(reference.arch), zoo.matrix([reference])[0]
    aligned = []
    for record, flat in zip(records, zoo.matrix(records), strict=True):
        if share_a_start(record, reference):
            distance = float((flat - target).norm() / target.norm())
            aligned.append(Aligned(flat, moved=0.0, before=distance, after=distance))
        else:
            aligned.append(align(spec, flat, target, inputs))
    return aligned


def align_zoo(zoo: Zoo, folder: Path | str, inputs: dict[str, Images] | None = None) -> Zoo:
    """Write a copy of a zoo to `folder` in which all networks of an architecture are aligned with one of them.

    The reference of each architecture is its first network that is not held out, or its first if all are.

    Args:
        inputs: prepared images for each architecture, by its name; architectures without images are aligned by weights.

    Raises:
        BadInput: an architecture cannot be aligned, or the folder is not empty.
    """
    copy = Zoo.create(folder, zoo.name, licence=str(zoo.info.get("licence", "unknown")), spec=zoo.info.get("spec"))
    for arch in zoo.archs:
        records = zoo.select(arch=arch)
        reference = (zoo.select(arch=arch, held_out=False) or records)[0]
        aligned = align_records(zoo, records, reference, (inputs or {}).get(arch))
        copy.add((_with_note(r, a, reference), a.weights) for r, a in zip(records, aligned, strict=True))
        start = zoo.start(arch)
        if start is not None and not any(a.moved for a in aligned):
            base = zoo.base(arch)
            copy.set_starts({arch: torch.as_tensor(start)}, {} if base is None else {arch: torch.as_tensor(base)})
    copy.finalize()
    return copy


def _with_note(record: Checkpoint, aligned: Aligned, reference: Checkpoint) -> Checkpoint:
    """The record with a note on the share of its units that were moved, if any were."""
    if not aligned.moved:
        return record
    moved = f"{aligned.moved:.0%} of its units moved: aligned with {reference.id}"
    return record.model_copy(update={"note": "; ".join(filter(None, [record.note, moved]))})
