"""The plan of a search: its candidates in batches, a function of the settings, the seeds and the feedback alone.

The plan knows nothing of budgets, workers and files. That is why a resumed search goes on exactly where it stopped.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from ..optimizers.feedback import Feedback, failure_feedback
from ..optimizers.names import optimizer_for
from ..optimizers.optimizer import Optimizer, make_optimizer
from ..optimizers.pareto import order
from .population import Population
from .race import race
from .settings import SearchSettings
from .space import Space, make_space

BatchFeedback = Sequence[Feedback | None]  # one for each candidate of a batch, in ask order; None for a failure


@dataclass(frozen=True)
class Candidate:
    """A point to be evaluated.

    `number` counts the candidates in ask order; `vector` is (vector_dim,). `coordinates` (dim,) is None for a seed.
    """

    number: int
    origin: str
    vector: np.ndarray
    coordinates: np.ndarray | None = None


@dataclass(frozen=True)
class Batch:
    """Candidates that are evaluated together, on all examples or, in a race, on a share of them.

    `phase` is "seed" or "search". `share` is None if the objective is to be called, otherwise its `look` is. `cost` is
    what each candidate takes of the budget, in evaluations. That of a look is a part of the cost of a full evaluation:
    examples that an earlier look has seen are not paid twice.
    """

    number: int
    phase: str
    candidates: list[Candidate]
    share: float | None = None
    cost: float = 1.0


class Plan:
    """The candidates of a search; `asked` counts them. `space` is None until all seeds are evaluated."""

    def __init__(self, population: Population, settings: SearchSettings) -> None:
        self.seeds = population.with_mean()
        self.space: Space | None = None
        self.asked = 0
        self._settings = settings
        self._optimizer: Optimizer | None = None
        self._feedback: list[Feedback | None] = []  # for all candidates so far
        self._batches = 0

    def seed_batches(self) -> Generator[Batch, BatchFeedback, None]:
        """Yield the seeds in batches; send the feedback for each. At the end the optimizer is ready to ask."""
        size = self._settings.batch
        for start in range(0, len(self.seeds), size):
            rows = range(start, min(start + size, len(self.seeds)))
            candidates = [Candidate(row, self.seeds.origins[row], self.seeds.vectors[row]) for row in rows]
            # In a race the seeds get a look at all examples, so that all losses that are compared are computed alike.
            share = 1.0 if self._settings.rungs else None
            self._feedback += yield Batch(self._next_number(), "seed", candidates, share, self._settings.cost)
        self.asked = len(self.seeds)
        self.space = seeded_space(self._settings.space, self.seeds, self._feedback)
        self._optimizer = make_optimizer(
            self._settings.optimizer,
            self.space.dim,
            batch=size,
            seed=self._settings.seed,
            sigma=self._settings.sigma,
            objectives=len(self._settings.objectives) if self._settings.pareto else 1,
            seeds=[
                (self.space.to_coordinates(vector), feedback)
                for vector, feedback in zip(self.seeds.vectors, self._feedback, strict=True)
                if feedback is not None
            ],
        )

    def search_batches(self) -> Generator[Batch, BatchFeedback, None]:
        """Yield batches without end; send the feedback for each to get the next."""
        while True:
            candidates = [self.ask() for _ in range(self._settings.batch)]
            number = self._next_number()
            if self._settings.rungs:
                told = yield from self._race(number, candidates)
            else:
                told = yield Batch(number, "search", candidates, cost=self._settings.cost)
            self._feedback += told
            for candidate, feedback in zip(candidates, told, strict=True):
                self._tell(candidate, feedback)

    def ask(self) -> Candidate:
        """Return the optimizer's next candidate."""
        assert self._optimizer is not None and self.space is not None, "the seeds are evaluated first"
        coordinates = self._optimizer.ask()
        self.asked += 1
        origin = optimizer_for(self._settings.optimizer, self.space.dim)
        return Candidate(self.asked - 1, origin, self.space.to_vector(coordinates), coordinates)

    def tell(self, candidate: Candidate, feedback: Feedback | None) -> None:
        """Tell the feedback for one candidate, in any order and without waiting for its batch (mode async)."""
        self._feedback.append(feedback)
        self._tell(candidate, feedback)

    def _tell(self, candidate: Candidate, feedback: Feedback | None) -> None:
        assert self._optimizer is not None and candidate.coordinates is not None, "seeds are not told"
        known = failure_feedback(self._feedback) if feedback is None else feedback
        self._optimizer.tell(candidate.coordinates, known)

    def _race(self, number: int, candidates: list[Candidate]) -> Generator[Batch, BatchFeedback, BatchFeedback]:
        """Yield the looks at a batch; send the feedback for each. Returns the feedback to tell for all candidates."""
        looks = race(len(candidates), self._settings.rungs)
        rows, share, cost = next(looks)
        while True:
            cost *= self._settings.cost
            losses = yield Batch(number, "search", [candidates[row] for row in rows], share, cost)
            try:
                rows, share, cost = looks.send(losses)  # type: ignore[arg-type]
            except StopIteration as end:
                told: BatchFeedback = end.value
                return told

    def _next_number(self) -> int:
        self._batches += 1
        return self._batches - 1


def seeded_space(name: str, seeds: Population, feedback: BatchFeedback) -> Space:
    """Return the space around evaluated seeds.

    With several objectives the position of a seed in the order of the fronts stands for its loss.
    """
    losses: list[float | None] = [one if isinstance(one, float) else None for one in feedback]
    several = [row for row, one in enumerate(feedback) if isinstance(one, tuple)]
    if several:
        for position, row in enumerate(order(np.array([feedback[row] for row in several]))):
            losses[several[row]] = float(position)
    return make_space(name, seeds, losses)
