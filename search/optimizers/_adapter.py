"""Adapter that gives one Nevergrad optimizer the methods `ask` and `tell` of this package.

It differs from Nevergrad in two points: feedback is matched to its candidate by the coordinates, so that it may come in
any order; and several objectives are scaled to the range of the seeds, so that none outweighs the others by its unit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import nevergrad as ng  # type: ignore[import-untyped]
import numpy as np
from nevergrad.optimization.base import Optimizer as NevergradBase  # type: ignore[import-untyped]

from ..errors import SearchError
from ._hypervolume import Front
from .feedback import Feedback, Seeds
from .pareto import nondominated

LARGEST_LOSS = 1e20  # larger losses are clipped here; Nevergrad would clip them at 5e20, with a warning


class NevergradOptimizer:
    """A Nevergrad optimizer that is told feedback in any order.

    Args:
        optimizer: the optimizer of Nevergrad, which has been told nothing yet.
        seeds: the evaluated seeds, best first.
        told: number of seeds that the algorithm is told at the beginning, the best ones.
        enter: is called with the Nevergrad candidate and the row of each seed before the algorithm is told of it.
        gains: with several objectives, whether a candidate's loss is the hypervolume that the candidate adds, instead
            of the hypervolume of the whole front after it.
        before: is called before each tell with the number of tells so far.
        check: is called after each tell with the number of tells so far.
    """

    def __init__(
        self,
        optimizer: NevergradBase,
        seeds: Seeds = (),
        *,
        told: int = 0,
        enter: Callable[[ng.p.Parameter, int], None] | None = None,
        gains: bool = False,
        before: Callable[[int], None] | None = None,
        check: Callable[[int], None] | None = None,
    ) -> None:
        self._optimizer = optimizer
        self._pending: dict[bytes, deque[ng.p.Parameter]] = {}
        self._before = before
        self._check = check
        self._told = 0
        self._low, self._width = _range(seeds)
        self._begin(seeds, told, enter, gains)

    def ask(self) -> np.ndarray:
        """Return the next coordinates (dim,)."""
        candidate = self._optimizer.ask()
        coordinates = np.array(candidate.value, dtype=np.float64)
        self._pending.setdefault(_key(coordinates), deque()).append(candidate)
        return coordinates

    def tell(self, coordinates: np.ndarray, feedback: Feedback) -> None:
        """Tell the feedback for coordinates that `ask` returned; equal coordinates are told oldest first.

        Raises:
            SearchError: the coordinates were not asked, or have been told already.
        """
        key = _key(coordinates)
        if key not in self._pending:
            raise SearchError(
                "a loss was told for coordinates that are not pending\n"
                "an algorithm can only use the losses of coordinates that it has asked for and was not told yet\n"
                "tell each loss once, with the very coordinates that ask returned"
            )
        candidate = self._pending[key].popleft()
        if not self._pending[key]:
            del self._pending[key]
        if self._before is not None:
            self._before(self._told)
        self._optimizer.tell(candidate, self._scaled(feedback))
        self._told += 1
        if self._check is not None:
            self._check(self._told)

    def _scaled(self, feedback: Feedback) -> float | list[float]:
        """Clip the feedback, and scale several objectives to the range of the seeds."""
        if isinstance(feedback, Sequence | np.ndarray):
            values = np.minimum(np.asarray(feedback, dtype=np.float64), LARGEST_LOSS)
            return [float(value) for value in (values - self._low) / self._width]
        return min(float(feedback), LARGEST_LOSS)

    def _begin(self, seeds: Seeds, told: int, enter: Callable[[ng.p.Parameter, int], None] | None, gains: bool) -> None:
        """Tell the algorithm the first `told` seeds; with several objectives, put the other seeds on its front.

        The hypervolume of a new candidate is measured against that front. The front is not part of the algorithm
        itself: CMA must not be told candidates that it has not asked.
        """
        front = None
        if seeds and not isinstance(seeds[0][1], float):
            self._optimizer.num_objectives = len(self._low)
            front = self._optimizer._hypervolume_pareto = Front(self._optimizer, len(self._low), gains=gains)
        for row, (coordinates, feedback) in enumerate(seeds[:told]):
            candidate = self._optimizer.parametrization.spawn_child(new_value=coordinates)
            if enter is not None:
                enter(candidate, row)
            self._optimizer.tell(candidate, self._scaled(feedback))
        if front is not None:
            on_front = nondominated(np.array([feedback for _, feedback in seeds]))
            for row, (coordinates, feedback) in enumerate(seeds):
                if on_front[row] and row >= told:
                    candidate = self._optimizer.parametrization.spawn_child(new_value=coordinates)
                    candidate._losses = np.array(self._scaled(feedback))
                    front.add(candidate)


def _key(coordinates: np.ndarray) -> bytes:
    return (np.asarray(coordinates, dtype=np.float64) + 0.0).tobytes()  # adding 0.0 turns -0.0 into 0.0


def _range(seeds: Seeds) -> tuple[np.ndarray, np.ndarray]:
    """Best value and range of each objective over the seeds, (K,) each; a range of zero is replaced by 1."""
    values = np.array([np.atleast_1d(one) for _, one in seeds], dtype=np.float64) if seeds else np.zeros((1, 1))
    width = np.ptp(values, axis=0)
    return values.min(axis=0), np.where(width > 0, width, 1.0)
