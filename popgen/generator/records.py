"""What a generator holds besides its tensors: records of its codes, conditions, where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from popgen.tasks import get_task, keyed_scores, score_key
from popgen.zoo import Checkpoint


@dataclass(frozen=True)
class Code:
    """A training checkpoint's place in the generator: its latent is row `row` of the stored codes."""

    id: str
    arch: str
    data: str
    seed: int  # -1 where it is unknown
    val_score: float  # as the zoo recorded it, in the unit of the task; NaN where it did not
    test_score: float
    row: int
    unit: str = "accuracy"

    @classmethod
    def of(cls, record: Checkpoint, row: int) -> Code:
        """The code of a zoo's checkpoint."""
        scores = [record.score(split) for split in ("val", "test")]
        val, test = (float("nan") if score is None else score for score in scores)
        seed = -1 if record.seed is None else record.seed
        unit = get_task(record.arch_config.task).unit
        return cls(record.id, record.arch, record.data, seed, val, test, row, unit)

    def to_json(self) -> dict[str, Any]:
        """The keys of codes.json."""
        scores = keyed_scores(self.unit, val=self.val_score, test=self.test_score)
        return {"id": self.id, "arch": self.arch, "data": self.data, "seed": self.seed, **scores, "row": self.row}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Code:
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError: a key is missing, or is not known.
        """
        rest = dict(content)
        unit = rest.pop("unit", "accuracy")
        val, test = (rest.pop(score_key(unit, split)) for split in ("val", "test"))
        return cls(**rest, val_score=val, test_score=test, unit=unit)


@dataclass(frozen=True)
class Condition:
    """What latents are sampled for: embeddings of data sets (n, out) and vectors of architectures (n, features)."""

    data: Tensor
    arch: Tensor


@dataclass
class Provenance:
    """Where a generator came from; part of config.json."""

    zoo: str = ""
    zoo_sha256: str = ""
    classes: list[str] = field(default_factory=list)  # the class names that all its data sets share
    data: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    popgen: str = ""
    prior: str = "network"  # which of PRIORS samples where none is named
    foreign: list[str] = field(default_factory=list)  # those of them that checkpoints trained elsewhere are of
