"""Finds the checkpoint that a spec names as ZOO#ID, or as the only one of its architecture in a zoo."""

from __future__ import annotations

from popgen.errors import BadInput
from popgen.zoo.record import Checkpoint
from popgen.zoo.store import Zoo


def find_checkpoint(reference: str, setting: str, forms: str) -> tuple[Zoo, Checkpoint]:
    """Return the zoo and the record of a checkpoint that is named ZOO#ID, by the zoo's folder and the checkpoint's id.

    Args:
        setting, forms: for the error, the setting that names it and the beginning of what it may be: "a start is a seed, or".

    Raises:
        NotFound: there is no such zoo or checkpoint.
        BadInput: the text has another form.
    """
    folder, mark, checkpoint_id = reference.partition("#")
    if not mark or not checkpoint_id:
        raise BadInput(
            f"{setting} is {reference!r}",
            f"{forms} a zoo's folder and a checkpoint in it",
            "For example zoos/cifar_resnets#resnet20/cifar10/resnet20_akamaster.",
        )
    zoo = Zoo.open(folder)
    return zoo, zoo.record(checkpoint_id)


def only_checkpoint(folder: str, arch: str, setting: str) -> tuple[Zoo, Checkpoint]:
    """Return a zoo and the record of its only checkpoint of an architecture.

    Args:
        setting: for the error, the setting that names the zoo's folder.

    Raises:
        NotFound: there is no such zoo.
        BadInput: it has no checkpoint of the architecture, or more than one.
    """
    zoo = Zoo.open(folder)
    records = zoo.select(arch=arch)
    if len(records) != 1:
        raise BadInput(
            f"{setting} is {folder!r}, which has {len(records)} checkpoints of {arch!r}",
            f"it has {', '.join(record.id for record in zoo.records[:6])}",
            "Name a zoo with one of each architecture, or a checkpoint as ZOO#ID.",
        )
    return zoo, records[0]
