"""The settings of a search, and which of them may not change when it is resumed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from .budget import Budget
from .errors import ResumeMismatch, SearchError
from .population import Population
from .space import check_space


@dataclass(frozen=True)
class SearchSettings:
    """How to search.

    `batch` is the number of candidates asked at a time: it is part of the algorithm and has nothing to do with the
    number of workers. `sigma` is the first step in units of the seeds' spread; None takes the optimizer's default.

    Example:
        >>> SearchSettings(optimizer="DE", budget=Budget(evaluations=500)).batch
        12
    """

    optimizer: str = "CMA"
    space: str = "auto"
    batch: int = 12  # CMA's own population at 16 coordinates, and a multiple of 2, 3, 4, 6 and 12 workers
    seed: int = 0
    sigma: float | None = None
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        check_space(self.space)
        if self.batch < 1:
            raise SearchError(
                f"batch is {self.batch}\nat least one candidate is asked at a time\nset a batch such as 12"
            )
        if not 0 <= self.seed < 2**32:
            raise SearchError(f"seed is {self.seed}\nthe generators take 32 bits\nset a seed from 0 to 4294967295")
        if self.sigma is not None and not (self.sigma > 0 and math.isfinite(self.sigma)):
            raise SearchError(
                f"sigma is {self.sigma}\nthe first step must be above zero\nset a sigma such as 0.5, or leave it out"
            )


def fingerprint(settings: SearchSettings, population: Population) -> dict[str, Any]:
    """Everything that decides which candidates are asked; the budget does not."""
    return {
        "optimizer": settings.optimizer,
        "space": settings.space,
        "batch": settings.batch,
        "seed": settings.seed,
        "sigma": settings.sigma,
        "seeds": len(population),
        "dim": population.dim,
        "population": population.digest(),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that decide which candidates are asked."""
    return {name: version(name) for name in ("nevergrad", "cma", "numpy")}


def check_same(recorded: dict[str, Any], now: dict[str, Any], where: str) -> None:
    """Refuse to go on with other settings than the history was begun with.

    Raises:
        ResumeMismatch: names each setting with its old and new value.
    """
    names = [name for name in {**recorded, **now} if recorded.get(name) != now.get(name)]
    if names:
        changed = "; ".join(f"{name} was {recorded.get(name)!r}, is {now.get(name)!r}" for name in names)
        raise ResumeMismatch(
            f"{where} cannot be resumed with other settings\n"
            f"{changed}\n"
            "restore these settings, or start a new search in another folder; only the budget may change"
        )
