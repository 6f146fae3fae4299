"""Reads the robust networks that a generator keeps beside its bases."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from popgen.errors import BadInput
from popgen.zoo import Zoo
from popgen.zoo.refer import find_checkpoint


def read_robust(references: Iterable[str], zoo: Zoo) -> dict[str, Tensor]:
    """Return the weights (p,) of the checkpoints ZOO#ID, by the name of their architecture in `zoo`.

    Raises:
        NotFound: there is no such zoo or checkpoint.
        BadInput: a checkpoint is of no architecture of the zoo, or the zoo has no base of its architecture.
    """
    found: dict[str, Tensor] = {}
    for reference in references:
        other, record = find_checkpoint(reference, "generator.robust", "a robust network is")
        fingerprint = other.spec(record.arch).fingerprint
        archs = [arch for arch in zoo.archs if zoo.spec(arch).fingerprint == fingerprint]
        if not archs:
            raise BadInput(
                f"generator.robust names {reference}, a {record.arch}",
                f"the zoo {zoo.name!r} has {', '.join(zoo.archs)}",
                "Name a checkpoint of one of these architectures.",
            )
        if zoo.base(archs[0]) is None:
            raise BadInput(
                f"generator.robust names {reference}, but the zoo {zoo.name!r} has no base",
                "its networks do not start from a trained network",
                "Give the zoo a start: ZOO#ID, or leave generator.robust out.",
            )
        found |= dict.fromkeys(archs, other.matrix([record])[0])
    return found
