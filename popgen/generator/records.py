"""What a generator holds besides its tensors: records of its codes, conditions, where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Code:
    """A training checkpoint's place in the generator: its latent is row `row` of the stored codes."""

    id: str
    arch: str
    data: str
    seed: int
    val_accuracy: float
    test_accuracy: float
    row: int


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
