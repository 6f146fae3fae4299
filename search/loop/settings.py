"""The settings of a search, and the check that a resumed search has the settings that it was begun with."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from ..errors import ResumeMismatch, SearchError
from .budget import Budget
from .population import Population
from .space import check_space

MODES = ("exact", "async")


@dataclass(frozen=True)
class SearchSettings:
    """Settings of a search.

    Args:
        optimizer: a name among `OPTIMIZERS`, or MODULE:NAME for one of the user's own.
        space: a name among `SPACES`: the coordinates in which the optimizer moves.
        batch: number of candidates asked at a time. It is part of the algorithm, whatever the number of workers is.
        seed: of the optimizer's random numbers, 0 to 2**32 - 1.
        sigma: first step in units of the seeds' spread; None means the optimizer's default.
        mode: "exact", where the history is the same for any number of workers, or "async", where no worker waits for
            another and the history depends on which of them are faster.
        rungs: growing shares of the examples, above 0 and below 1, on which a batch is evaluated first; at each of them
            the worse half drops out. The objective must have `look`. Without rungs all examples are used at once.
        objectives: names of what is minimised, each "loss" or a metric that the objective returns.
        weights: of the objectives in their sum, which is minimised. None with several objectives means a search for
            their Pareto front.
        cost: what one evaluation takes of `budget.evaluations`; above 1 if a candidate is trained before it is
            evaluated, for example.

    Raises:
        SearchError: a setting is out of its range, or two of them do not go together.
        UnknownName: there is no such space.

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
    mode: str = "exact"
    rungs: tuple[float, ...] = ()
    objectives: tuple[str, ...] = ("loss",)
    weights: tuple[float, ...] | None = None
    cost: float = 1.0

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
        if self.mode not in MODES:
            raise SearchError(f"unknown mode {self.mode!r}\na search is exact or async\nset one of: {', '.join(MODES)}")
        if not (self.cost > 0 and math.isfinite(self.cost)):
            raise SearchError(
                f"cost is {self.cost}\nan evaluation takes a part of the budget above zero\nset a cost such as 1.0"
            )
        if self.budget.evaluations is not None and self.budget.evaluations < self.cost:
            raise SearchError(
                f"the budget of {self.budget.evaluations} evaluations is below the cost of one, {self.cost:.4g}\n"
                f"nothing could be evaluated\nset a budget of {math.ceil(self.cost)} or more"
            )
        self._check_rungs()
        self._check_objectives()

    @property
    def pareto(self) -> bool:
        """Whether the search is for the Pareto front of several objectives."""
        return len(self.objectives) > 1 and self.weights is None

    def _check_rungs(self) -> None:
        shares = (0.0, *self.rungs, 1.0)
        if not all(low < high for low, high in zip(shares, shares[1:], strict=False)):
            raise SearchError(
                f"rungs are {list(self.rungs)}\n"
                "they are growing shares of the examples, above 0 and below 1\n"
                "set rungs such as 0.25, 0.5"
            )
        if self.rungs and (self.mode == "async" or self.pareto):
            other = "mode async" if self.mode == "async" else "a Pareto search"
            raise SearchError(
                f"rungs do not go with {other}\n"
                "a race compares the candidates of one batch by one loss\n"
                "leave the rungs out, or search with mode exact and weights"
            )

    def _check_objectives(self) -> None:
        names = self.objectives
        if not names or len(set(names)) < len(names):
            raise SearchError(
                f"objectives are {list(names)}\nthere is at least one, and each is named once\nset objectives such as loss"
            )
        weights = self.weights
        if weights is not None and not (len(weights) == len(names) and all(0 < w < math.inf for w in weights)):
            raise SearchError(
                f"weights are {list(weights)} for the objectives {list(names)}\n"
                "each objective has one weight above zero; all are minimised\n"
                "give as many weights, or none for the Pareto front"
            )
        if self.pareto and self.budget.target is not None:
            raise SearchError(
                f"a target of {self.budget.target} does not go with a Pareto search\n"
                f"it would have to be a point of {len(names)} objectives\n"
                "leave the target out, or add the objectives up with weights"
            )


def fingerprint(settings: SearchSettings, population: Population) -> dict[str, Any]:
    """Return the settings that determine which candidates are asked. The budget is not among them."""
    return {
        "optimizer": settings.optimizer,
        "space": settings.space,
        "batch": settings.batch,
        "seed": settings.seed,
        "sigma": settings.sigma,
        "mode": settings.mode,
        "rungs": list(settings.rungs),
        "objectives": list(settings.objectives),
        "weights": None if settings.weights is None else list(settings.weights),
        "seeds": len(population),
        "dim": population.dim,
        "population": population.digest(),
    } | ({} if settings.cost == 1.0 else {"cost": settings.cost})


def versions() -> dict[str, str]:
    """Return the versions of the packages that determine which candidates are asked."""
    return {name: version(name) for name in ("nevergrad", "cma", "numpy")}


def check_same(recorded: dict[str, Any], now: dict[str, Any], where: str) -> None:
    """Refuse to resume a search with other settings than it was begun with; both are from `fingerprint`.

    Raises:
        ResumeMismatch: the settings differ; the message has the old and the new value of each.
    """
    names = [name for name in {**recorded, **now} if recorded.get(name) != now.get(name)]
    if names:
        changed = "; ".join(f"{name} was {recorded.get(name)!r}, is {now.get(name)!r}" for name in names)
        raise ResumeMismatch(
            f"{where} cannot be resumed with other settings\n"
            f"{changed}\n"
            "restore these settings (only the budget may change), "
            "or start a new search from the best of this one: search.best_of"
        )
