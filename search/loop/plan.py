"""Which candidates are evaluated, in which batches: a function of the settings, the seeds and the losses alone.

The plan knows nothing of budgets, workers or files, which is why a resumed search goes on exactly where it stopped.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from ..optimizers.optimizer import Optimizer, make_optimizer
from ..optimizers.pareto import order
from .judge import Worth, failure
from .population import Population
from .race import race
from .settings import SearchSettings
from .space import Space, make_space

Told = Sequence[Worth | None]  # one for each candidate of a batch, in ask order; None for a failure


@dataclass(frozen=True)
class Candidate:
    """A point to be evaluated. `number` counts in ask order; `coordinates` is None for a seed."""

    number: int
    origin: str
    vector: np.ndarray
    coordinates: np.ndarray | None = None


@dataclass(frozen=True)
class Batch:
    """Candidates that are evaluated together: all on the full set, or, in a race, on a share of it.

    `share` is None where the objective is simply called. `cost` of each is in units of the budget; of a look it is a part
    of a full evaluation's: what an earlier look has seen is not paid twice.
    """

    number: int
    phase: str
    candidates: list[Candidate]
    share: float | None = None
    cost: float = 1.0


class Plan:
    """The candidates of a search. `space` is None until all seeds are evaluated."""

    def __init__(self, population: Population, settings: SearchSettings) -> None:
        self.seeds = with_mean(population)
        self.space: Space | None = None
        self.asked = 0
        self._settings = settings
        self._optimizer: Optimizer | None = None
        self._worths: list[Worth | None] = []
        self._batches = 0

    def seed_batches(self) -> Generator[Batch, Told, None]:
        """Yield the seeds in batches; send the worths of each. At the end the optimizer stands ready."""
        size = self._settings.batch
        for start in range(0, len(self.seeds), size):
            rows = range(start, min(start + size, len(self.seeds)))
            candidates = [Candidate(row, self.seeds.origins[row], self.seeds.vectors[row]) for row in rows]
            # A race evaluates seeds by a look at everything: one computation for all losses that are compared.
            share = 1.0 if self._settings.rungs else None
            self._worths += yield Batch(self._next_number(), "seed", candidates, share, self._settings.cost)
        self.asked = len(self.seeds)
        self.space = seeded_space(self._settings.space, self.seeds, self._worths)
        self._optimizer = make_optimizer(
            self._settings.optimizer,
            self.space.dim,
            batch=size,
            seed=self._settings.seed,
            sigma=self._settings.sigma,
            objectives=len(self._settings.objectives) if self._settings.pareto else 1,
            seeds=[
                (self.space.to_coordinates(vector), worth)
                for vector, worth in zip(self.seeds.vectors, self._worths, strict=True)
                if worth is not None
            ],
        )

    def search_batches(self) -> Generator[Batch, Told, None]:
        """Yield batches without end; send the worths of each to get the next."""
        while True:
            candidates = [self.ask() for _ in range(self._settings.batch)]
            number = self._next_number()
            if self._settings.rungs:
                told = yield from self._race(number, candidates)
            else:
                told = yield Batch(number, "search", candidates, cost=self._settings.cost)
            self._worths += told
            for candidate, worth in zip(candidates, told, strict=True):
                self._tell(candidate, worth)

    def ask(self) -> Candidate:
        """The optimizer's next candidate."""
        assert self._optimizer is not None and self.space is not None, "the seeds come first"
        coordinates = self._optimizer.ask()
        self.asked += 1
        return Candidate(self.asked - 1, self._settings.optimizer, self.space.to_vector(coordinates), coordinates)

    def tell(self, candidate: Candidate, worth: Worth | None) -> None:
        """Tell the worth of one candidate at once, in whatever order (mode async)."""
        self._worths.append(worth)
        self._tell(candidate, worth)

    def _tell(self, candidate: Candidate, worth: Worth | None) -> None:
        assert self._optimizer is not None and candidate.coordinates is not None, "only the optimizer's own are told"
        self._optimizer.tell(candidate.coordinates, failure(self._worths) if worth is None else worth)

    def _race(self, number: int, candidates: list[Candidate]) -> Generator[Batch, Told, Told]:
        looks = race(len(candidates), self._settings.rungs)
        rows, share, cost = next(looks)
        while True:
            cost *= self._settings.cost
            losses = yield Batch(number, "search", [candidates[row] for row in rows], share, cost)
            try:
                rows, share, cost = looks.send(losses)  # type: ignore[arg-type]
            except StopIteration as end:
                told: Told = end.value
                return told

    def _next_number(self) -> int:
        self._batches += 1
        return self._batches - 1


def with_mean(population: Population) -> Population:
    """The population behind its own mean; as it is where it has one row, whose mean it would repeat."""
    if len(population) == 1:
        return population
    return Population(np.vstack([population.mean(), population.vectors]), ["mean", *population.origins])


def seeded_space(name: str, seeds: Population, worths: Told) -> Space:
    """The space around evaluated seeds. Of several objectives the place in the order of their fronts counts."""
    losses: list[float | None] = [worth if isinstance(worth, float) else None for worth in worths]
    several = [row for row, worth in enumerate(worths) if isinstance(worth, tuple)]
    if several:
        for place, row in enumerate(order(np.array([worths[row] for row in several]))):
            losses[several[row]] = float(place)
    return make_space(name, seeds, losses)
