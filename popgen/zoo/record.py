"""Checkpoint: the record of one network of a zoo, which holds everything but its weights; one line of the index."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, PlainSerializer
from torch import Tensor

from popgen.archs import ArchConfig, ArchSpec
from popgen.errors import BadInput
from popgen.json_text import json_text, parse_json
from popgen.tasks import get_task, goodness, score_key
from popgen.types import StateDict


def _read_config(value: Any) -> Any:
    """The ArchConfig of a dict in its JSON form; other values are returned as they are, for pydantic to check."""
    try:
        return _config(json_text(value)) if isinstance(value, dict) else value
    except TypeError as error:  # A field is missing or unknown.
        raise ValueError(str(error)) from error


@lru_cache(maxsize=1024)
def _config(text: str) -> ArchConfig:
    """The ArchConfig of a JSON text. The records of a zoo share one for each architecture, so that it opens in less time and memory."""
    return ArchConfig.from_json(parse_json(text))


class Checkpoint(BaseModel):
    """The record of one network of a zoo.

    >>> from popgen.archs import arch_config
    >>> config = arch_config("cnn-s")
    >>> record = Checkpoint(id="cnn-s/digits/s0", arch="cnn-s", arch_config=config, data="digits", lineage="a")
    >>> Checkpoint.model_validate_json(record.model_dump_json()) == record
    True
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1)  # unique in the zoo, such as cnn-s/digits/rotate:15/s0
    arch: str  # name of the architecture in this zoo
    arch_config: Annotated[
        InstanceOf[ArchConfig], BeforeValidator(_read_config), PlainSerializer(ArchConfig.to_json)
    ]  # builder of the network with its options, and the form of its inputs
    fingerprint: str = ""  # hash of the names and shapes of its tensors; filled in by the zoo
    data: str  # name of the data set that it was trained on
    classes: tuple[str, ...] = ()  # name of each output; () if unknown
    lineage: str  # the training run or base that it comes from; splits are made by lineage
    # Id of the checkpoint that it was trained from, `start:SEED` for a random start that networks share, `start:ZOO#ID`
    # for a start from a checkpoint of another zoo, or None.
    parent: str | None = None
    seed: int | None = None
    held_out: bool = False  # whether generators must not train on it
    metrics: dict[str, float] = {}  # accuracies (0 to 1) and losses as reported; never used to select
    source: str = ""
    licence: str = "unknown"
    created_with: str = ""  # popgen and its version
    note: str = ""  # changes that were made to names or order of the weights on import or alignment
    sha256: str = ""  # hash of its weights, see `weights_sha256`; filled in by the zoo
    shard: str = ""  # path of the shard in the zoo's folder; filled in by the zoo
    row: int = Field(default=0, ge=0)  # row of the shard's matrix; filled in by the zoo

    @property
    def built(self) -> bool:
        """Whether `popgen zoo build` trained it from a random start, so that it has seen popgen's training split alone.

        A network that starts from another checkpoint (ZOO#ID) or from pretrained weights is excluded, since these may have seen
        other images.
        """
        return (
            self.source.startswith("popgen zoo build ")
            and "#" not in (self.parent or "")
            and self.parent != "start:pretrained"
        )

    def score(self, split: str) -> float | None:
        """The recorded score on a split (train, val or test) in the unit of the network's task, or None."""
        return self.metrics.get(score_key(get_task(self.arch_config.task).unit, split))

    def goodness(self, split: str) -> float:
        """The recorded score on a split as a number of which a higher one is better; -infinity if there is none."""
        score = self.score(split)
        return -math.inf if score is None else goodness(get_task(self.arch_config.task).unit, score)

    def content(self) -> str:
        """The record as JSON without shard and row, which may differ between two zoos of the same content."""
        return self.model_dump_json(exclude={"shard", "row"})


def group_by(records: Iterable[Checkpoint], field: str) -> dict[str, list[Checkpoint]]:
    """Group records by the value of a text field; groups are in order of first appearance."""
    groups: dict[str, list[Checkpoint]] = defaultdict(list)
    for record in records:
        groups[getattr(record, field)].append(record)
    return groups


def records_sha256(records: Iterable[Checkpoint]) -> str:
    """SHA-256, in hexadecimal, of the contents of records in any order."""
    return hashlib.sha256("\n".join(sorted(r.content() for r in records)).encode()).hexdigest()


def weights_sha256(flat: Tensor) -> str:
    """SHA-256, in hexadecimal, of a network's weights (p,) as little-endian float32.

    >>> import torch
    >>> weights_sha256(torch.zeros(2)) == hashlib.sha256(bytes(8)).hexdigest()
    True
    """
    return hashlib.sha256(flat.detach().contiguous().numpy().astype("<f4").tobytes()).hexdigest()


def checked_flat(spec: ArchSpec, weights: Tensor | StateDict, where: str) -> Tensor:
    """The weights of a checkpoint as a flat vector (p,) on the CPU, checked to fit the architecture and to be finite.

    Args:
        where: the checkpoint, for errors.

    Raises:
        BadInput: they do not fit, or are not finite.
    """
    if isinstance(weights, Tensor):
        if weights.shape != (spec.size,):
            raise BadInput(
                f"{where}: weights of shape {tuple(weights.shape)}",
                f"{spec.name!r} has ({spec.size},)",
                "Use ArchSpec.to_flat.",
            )
        weights = spec.to_state(weights)
    spec.check(weights, where)
    return spec.to_flat(weights).cpu()
