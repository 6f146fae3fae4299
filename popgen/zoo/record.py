"""Checkpoint: all that a zoo knows about one network, except its weights; one line of the index."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, PlainSerializer
from torch import Tensor

from popgen.archs import ArchConfig
from popgen.tasks import get_task, score_key


def _read_config(value: Any) -> Any:
    """Return an ArchConfig from its JSON form, and other values unchanged: pydantic checks the type afterwards."""
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
    # How to build the network, and what its inputs are.
    arch_config: Annotated[InstanceOf[ArchConfig], BeforeValidator(_read_config), PlainSerializer(ArchConfig.to_json)]
    fingerprint: str = ""  # hash of the names and shapes of its tensors; filled in by the zoo
    data: str  # name of the data set that it was trained on
    classes: tuple[str, ...] = ()  # name of each output, where known
    lineage: str  # the training run or base that it comes from; splits are made by lineage
    # Id of the checkpoint that it was trained from, or `start:SEED` for a shared random start.
    parent: str | None = None
    seed: int | None = None
    held_out: bool = False  # no generator may train on it
    metrics: dict[str, float] = {}  # recorded accuracies (0 to 1) and losses; never used to choose networks
    source: str = ""
    licence: str = "unknown"
    created_with: str = ""  # popgen and its version
    note: str = ""  # how the importer made the tensors fit
    sha256: str = ""  # hash of its values as little-endian float32 in the architecture's order; filled in by the zoo
    shard: str = ""  # file in the zoo's folder; filled in by the zoo
    row: int = Field(default=0, ge=0)  # row of the shard's matrix; filled in by the zoo

    @property
    def built(self) -> bool:
        """Whether `popgen zoo build` trained it from a random start, and so only on popgen's training split.

        A network that started at a checkpoint (ZOO#ID) is excluded: that one may have seen other images.
        """
        return self.source.startswith("popgen zoo build ") and "#" not in (self.parent or "")

    def score(self, split: str) -> float | None:
        """Return the recorded score on a split, in the unit of the network's task, or None if none is recorded."""
        return self.metrics.get(score_key(get_task(self.arch_config.task).unit, split))

    def content(self) -> str:
        """Return the record as JSON without shard and row: these depend on the order in which a zoo was written."""
        return self.model_dump_json(exclude={"shard", "row"})


def weights_sha256(flat: Tensor) -> str:
    """Return the SHA-256 of a network's values, shape (p,), as little-endian float32.

    >>> import torch
    >>> weights_sha256(torch.zeros(2)) == hashlib.sha256(bytes(8)).hexdigest()
    True
    """
    return hashlib.sha256(flat.detach().contiguous().numpy().astype("<f4").tobytes()).hexdigest()
