"""Records of a generator: its stored codes, the conditions that it samples under, and its provenance."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from torch import Tensor

from popgen.json_text import known_numbers
from popgen.tasks import get_task, goodness, keyed_scores, score_key
from popgen.zoo import Checkpoint


@dataclass(frozen=True)
class Code:
    """Record of a training checkpoint, whose latent is stored in the generator's codes."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    id: str
    arch: str
    data: str
    seed: int  # -1 if it is unknown
    val_score: float | None  # score that the zoo recorded, in `unit`; None if it recorded none
    test_score: float | None  # score on the test split, recorded in the same way
    row: int  # index of the latent in the codes
    unit: str = "accuracy"  # unit of the task's score

    @classmethod
    def of(cls, record: Checkpoint, row: int) -> Code:
        """Return the record of a zoo's checkpoint whose latent has the index `row`."""
        val, test = (record.score(split) for split in ("val", "test"))
        seed = -1 if record.seed is None else record.seed
        unit = get_task(record.arch_config.task).unit
        return cls(record.id, record.arch, record.data, seed, val, test, row, unit)

    @property
    def goodness(self) -> float:
        """The validation score as a number of which a higher one is better; -infinity if there is none."""
        return -math.inf if self.val_score is None else goodness(self.unit, self.val_score)

    def to_json(self) -> dict[str, Any]:
        """Return the record with the keys of codes.json."""
        scores = keyed_scores(self.unit, val=self.val_score, test=self.test_score)
        return {"id": self.id, "arch": self.arch, "data": self.data, "seed": self.seed, **scores, "row": self.row}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Code:
        """Return the record that `to_json` has written.

        Raises:
            KeyError, TypeError, ValueError: a key is missing or unknown, or its value has another type.
        """
        rest = known_numbers(content)  # earlier versions wrote NaN for a score that is not known
        unit = rest.pop("unit", "accuracy")
        val, test = (rest.pop(score_key(unit, split)) for split in ("val", "test"))
        return _CODE.validate_python({**rest, "val_score": val, "test_score": test, "unit": unit})


_CODE = TypeAdapter(Code)


@dataclass(frozen=True)
class Condition:
    """Conditions of `n` samples: embeddings of data sets (n, out) and vectors of architectures (n, features)."""

    data: Tensor
    arch: Tensor


@dataclass
class Provenance:
    """Origin of a generator and metrics of its training; part of config.json."""

    zoo: str = ""  # name of the zoo
    zoo_sha256: str = ""  # hash of the zoo's contents
    classes: list[str] = field(default_factory=list)  # classes of all training data sets; empty if they differ
    data: list[str] = field(default_factory=list)  # training data sets for which the zoo has checkpoints
    metrics: dict[str, Any] = field(default_factory=dict)  # metrics of the training, such as its seconds
    popgen: str = ""  # version of popgen that trained it
    prior: str = "network"  # prior that training chose, one of PRIORS
    foreign: list[str] = field(default_factory=list)  # training data sets with checkpoints that popgen did not train
    parents: dict[str, Any] = field(default_factory=dict)  # what popgen.zoo.parents says of the training checkpoints
    descriptions: dict[str, str] = field(default_factory=dict)  # texts of the tasks that it was trained on
    starts: dict[str, list[str]] = field(default_factory=dict)  # ids of the networks that directions start from
    zoo_name: str = ""  # the repository of the zoo and its commit, hub:OWNER/NAME@COMMIT, where it is from the hub
