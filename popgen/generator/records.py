"""Data of a generator that are no tensors of its model: records of its codes, conditions, provenance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from popgen.tasks import get_task, keyed_scores, score_key
from popgen.zoo import Checkpoint


@dataclass(frozen=True)
class Code:
    """The record of a stored code: the latent of a training checkpoint is row `row` of the generator's codes."""

    id: str
    arch: str
    data: str
    seed: int  # -1 if it is unknown
    val_score: float  # score that the zoo recorded, in the unit of the task; NaN if it recorded none
    test_score: float  # in the same way
    row: int
    unit: str = "accuracy"

    @classmethod
    def of(cls, record: Checkpoint, row: int) -> Code:
        """Make the record of a zoo's checkpoint."""
        scores = [record.score(split) for split in ("val", "test")]
        val, test = (float("nan") if score is None else score for score in scores)
        seed = -1 if record.seed is None else record.seed
        unit = get_task(record.arch_config.task).unit
        return cls(record.id, record.arch, record.data, seed, val, test, row, unit)

    def to_json(self) -> dict[str, Any]:
        """Return the record with the keys of codes.json."""
        scores = keyed_scores(self.unit, val=self.val_score, test=self.test_score)
        return {"id": self.id, "arch": self.arch, "data": self.data, "seed": self.seed, **scores, "row": self.row}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Code:
        """Return the record from its JSON form.

        Raises:
            KeyError, TypeError: a key is missing or unknown.
        """
        rest = dict(content)
        unit = rest.pop("unit", "accuracy")
        val, test = (rest.pop(score_key(unit, split)) for split in ("val", "test"))
        return cls(**rest, val_score=val, test_score=test, unit=unit)


@dataclass(frozen=True)
class Condition:
    """Conditions of `n` samples: embeddings of data sets (n, out) and vectors of architectures (n, features)."""

    data: Tensor
    arch: Tensor


@dataclass
class Provenance:
    """The origin of a generator, with figures of its training; part of config.json."""

    zoo: str = ""
    zoo_sha256: str = ""
    classes: list[str] = field(default_factory=list)  # class names, if all training data sets have the same
    data: list[str] = field(default_factory=list)  # training data sets with checkpoints
    metrics: dict[str, Any] = field(default_factory=dict)  # figures of the training
    popgen: str = ""  # version that trained it
    prior: str = "network"  # default prior of a sampling, one of PRIORS
    foreign: list[str] = field(default_factory=list)  # data sets of checkpoints that popgen did not train
