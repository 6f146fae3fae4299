"""Seeds, an objective, and a reader of histories for the tests of the search."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search import Population


@pytest.fixture
def seeds() -> Callable[..., Population]:
    def make(dim: int = 6, count: int = 10, rng: int = 0) -> Population:
        vectors = np.random.default_rng(rng).normal(size=(count, dim))
        return Population(vectors, [f"seed-{row}" for row in range(count)])

    return make


@pytest.fixture
def quadratic() -> Callable[[int], Callable[[np.ndarray], float]]:
    """An ill-conditioned quadratic whose minimum lies off the seeds' centre."""

    def make(dim: int) -> Callable[[np.ndarray], float]:
        target = np.random.default_rng(99).normal(size=dim) * 0.5
        scale = np.linspace(0.5, 2.0, dim)

        def objective(vector: np.ndarray) -> float:
            return float((((vector - target) * scale) ** 2).sum())

        return objective

    return make


@pytest.fixture
def timeless() -> Callable[[Path], list[dict[str, Any]]]:
    """A reader that returns the lines of a history without their times."""

    def read(path: Path) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [{name: line[name] for name in line if name not in ("seconds", "elapsed")} for line in lines]

    return read
