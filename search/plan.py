"""Which candidates are evaluated, in which batches: a function of the settings, the seeds and the losses alone.

The plan knows nothing of budgets, workers or files, which is why a resumed search goes on exactly where it stopped.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from .optimizer import make_optimizer
from .population import Population
from .settings import SearchSettings
from .space import Space, make_space


@dataclass(frozen=True)
class Batch:
    """Candidates that are asked together. `coordinates` is None for seeds."""

    number: int
    phase: str
    vectors: list[np.ndarray]
    origins: list[str]
    coordinates: list[np.ndarray] | None


class Plan:
    """The batches of a search. `space` is None until all seeds are evaluated."""

    def __init__(self, population: Population, settings: SearchSettings) -> None:
        self.seeds = with_mean(population)
        self.space: Space | None = None
        self._settings = settings

    def batches(self) -> Generator[Batch, list[float | None], None]:
        """Yield batches without end; send the losses of each, in ask order and None for a failure, to get the next."""
        size = self._settings.batch
        losses: list[float | None] = []
        number = 0
        for start in range(0, len(self.seeds), size):
            rows = slice(start, start + size)
            losses += yield Batch(number, "seed", list(self.seeds.vectors[rows]), self.seeds.origins[rows], None)
            number += 1
        self.space = space = make_space(self._settings.space, self.seeds, losses)
        optimizer = make_optimizer(
            self._settings.optimizer,
            space.dim,
            batch=size,
            seed=self._settings.seed,
            sigma=self._settings.sigma,
            seeds=[
                (space.to_coordinates(vector), loss)
                for vector, loss in zip(self.seeds.vectors, losses, strict=True)
                if loss is not None
            ],
        )
        while True:
            coordinates = [optimizer.ask() for _ in range(size)]
            vectors = [space.to_vector(one) for one in coordinates]
            told = yield Batch(number, "search", vectors, [self._settings.optimizer] * size, coordinates)
            number += 1
            losses += told
            penalty = failure_loss(losses)
            for one, loss in zip(coordinates, told, strict=True):
                optimizer.tell(one, penalty if loss is None else loss)


def with_mean(population: Population) -> Population:
    """The population behind its own mean; as it is where it has one row, whose mean it would repeat."""
    if len(population) == 1:
        return population
    return Population(np.vstack([population.mean(), population.vectors]), ["mean", *population.origins])


def failure_loss(losses: list[float | None]) -> float:
    """What an optimizer is told of a failure: the worst loss of the run so far plus a tenth of the range.

    Example:
        >>> failure_loss([1.0, 3.0, None])
        3.3
    """
    finite = [loss for loss in losses if loss is not None]
    if not finite:
        return 1.0
    worst = max(finite)
    return worst + 0.1 * max(worst - min(finite), abs(worst), 1e-6)
