"""Alignment of a zoo: the units of all networks get the order of one of them, so that weights can be averaged and compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from popgen.types import Images
from popgen.weights.align import Aligned, align
from popgen.zoo.record import Checkpoint
from popgen.zoo.store import Zoo


def share_a_start(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two networks were trained from the same weights, so that their units have the same order already."""
    kin = {one.id, other.id}
    return (
        one.lineage == other.lineage
        or (one.parent is not None and one.parent == other.parent)
        or one.parent in kin
        or other.parent in kin
    )


def align_records(
    zoo: Zoo, records: Sequence[Checkpoint], reference: Checkpoint, inputs: Images | None = None
) -> list[Aligned]:
    """Align checkpoints of one architecture with the reference, except those that share a start with it.

    Args:
        inputs: prepared images on which units are matched, see `popgen.weights.align.align`.

    Raises:
        BadInput: the architecture cannot be aligned.
    """
    spec, target = zoo.spec(reference.arch), zoo.matrix([reference])[0]
    found = []
    for record, flat in zip(records, zoo.matrix(records), strict=True):
        if share_a_start(record, reference):
            found.append(Aligned(flat, 0.0, *[float((flat - target).norm() / target.norm())] * 2))
        else:
            found.append(align(spec, flat, target, inputs))
    return found


def align_zoo(zoo: Zoo, folder: Path | str, inputs: dict[str, Images] | None = None) -> Zoo:
    """Write a copy of a zoo in which all networks of an architecture are aligned with its first that is not held out.

    Args:
        folder: the folder to write.
        inputs: prepared images for each architecture, by name; an architecture without images is aligned by weights.

    Raises:
        BadInput: an architecture cannot be aligned, or the folder is not empty.
    """
    copy = Zoo.create(folder, zoo.name, licence=str(zoo.info.get("licence", "unknown")), spec=zoo.info.get("spec"))
    for arch in zoo.archs:
        records = zoo.select(arch=arch)
        reference = (zoo.select(arch=arch, held_out=False) or records)[0]
        aligned = align_records(zoo, records, reference, (inputs or {}).get(arch))
        notes = [
            "; ".join(
                filter(None, [r.note, f"{a.moved:.0%} of its units moved: aligned with {reference.id}" * bool(a.moved)])
            )
            for r, a in zip(records, aligned, strict=True)
        ]
        copy.add((r.model_copy(update={"note": n}), a.weights) for r, n, a in zip(records, notes, aligned, strict=True))
        start = zoo.start(arch)
        if start is not None and not any(a.moved for a in aligned):
            copy.set_starts({arch: torch.as_tensor(start)})
    copy.finalize()
    return copy
