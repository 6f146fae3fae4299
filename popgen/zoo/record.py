"""Checkpoint: everything a zoo knows about one network but its weights; one line of the index."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, PlainSerializer
from torch import Tensor

from popgen.archs import ArchConfig
from popgen.tasks import get_task, score_key


def _read_config(value: Any) -> Any:
    """An ArchConfig from its JSON form; anything else is left to the check of its type."""
    try:
        return ArchConfig.from_json(value) if isinstance(value, dict) else value
    except TypeError as error:  # a missing or unknown field
        raise ValueError(str(error)) from error


class Checkpoint(BaseModel):
    """One network of a zoo.

    >>> from popgen.archs import arch_config
    >>> config = arch_config("cnn-s")
    >>> record = Checkpoint(id="cnn-s/digits/s0", arch="cnn-s", arch_config=config, data="digits", lineage="a")
    >>> Checkpoint.model_validate_json(record.model_dump_json()) == record
    True
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1)  # unique in its zoo, such as cnn-s/digits/rotate:15/s0
    arch: str  # name of the architecture in this zoo
    arch_config: Annotated[
        InstanceOf[ArchConfig], BeforeValidator(_read_config), PlainSerializer(ArchConfig.to_json)
    ]  # how to build the network and what enters it
    fingerprint: str = ""  # of the names and shapes of its tensors; filled in by the zoo
    data: str  # name of the data set that it was trained on
    classes: tuple[str, ...] = ()  # name of each output, where known
    lineage: str  # the training run or base that it comes from; splits are made by lineage
    parent: str | None = (
        None  # id of the checkpoint it was trained from, `start:SEED` for a shared random start, or None
    )
    seed: int | None = None
    held_out: bool = False  # no generator may train on it
    metrics: dict[str, float] = {}  # accuracies 0 to 1 and losses, as recorded; never used to choose
    source: str = ""
    licence: str = "unknown"
    created_with: str = ""  # popgen and its version
    note: str = ""  # what the importer did to make the tensors fit
    sha256: str = ""  # of its values as little-endian float32 in the architecture's order; filled in by the zoo
    shard: str = ""  # file in the zoo's folder, and the row of its matrix; filled in by the zoo
    row: int = Field(default=0, ge=0)

    @property
    def built(self) -> bool:
        """Whether `popgen zoo build` trained it from a random start: on the training split alone, as popgen cuts it.

        A checkpoint that it starts from (ZOO#ID) may have seen more.
        """
        return self.source.startswith("popgen zoo build ") and "#" not in (self.parent or "")

    def score(self, split: str) -> float | None:
        """The recorded score on a split, in the unit of the network's task; None where none is recorded."""
        return self.metrics.get(score_key(get_task(self.arch_config.task).unit, split))

    def content(self) -> str:
        """The record as JSON without its place in the shards: what two equal zoos share."""
        return self.model_dump_json(exclude={"shard", "row"})


def weights_sha256(flat: Tensor) -> str:
    """SHA-256 of a network's values, shape (p,), as little-endian float32.

    >>> import torch
    >>> weights_sha256(torch.zeros(2)) == hashlib.sha256(bytes(8)).hexdigest()
    True
    """
    return hashlib.sha256(flat.detach().contiguous().numpy().astype("<f4").tobytes()).hexdigest()
