"""One Nevergrad optimizer behind `ask` and `tell`: told in any order, of one loss or of several objectives.

Differs from Nevergrad: a told vector is matched by its coordinates, and several objectives are told in units of the
seeds' range, so that none outweighs the others by its unit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import nevergrad as ng  # type: ignore[import-untyped]
import numpy as np
from nevergrad.optimization.base import Optimizer as NevergradBase  # type: ignore[import-untyped]

from ..errors import SearchError
from ._hypervolume import Front
from .pareto import nondominated

Loss = float | Sequence[float]  # one number, or one for each of several objectives
Seeds = Sequence[tuple[np.ndarray, Loss]]  # coordinates (dim,) and finite loss, best first

LARGEST_LOSS = 1e20  # Nevergrad clips at 5e20, with a warning


class NevergradOptimizer:
    """A Nevergrad optimizer that is told in any order.

    The algorithm is told of the first `told` seeds, each after `enter(candidate, row)`, and of several objectives the
    volume reached, or with `gains` the volume that each candidate adds. `before` runs before each tell
    and `check` after it, both given the number of tells so far.
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
        candidate = self._optimizer.ask()
        coordinates = np.array(candidate.value, dtype=np.float64)
        self._pending.setdefault(_key(coordinates), deque()).append(candidate)
        return coordinates

    def tell(self, coordinates: np.ndarray, loss: Loss) -> None:
        key = _key(coordinates)
        if key not in self._pending:
            raise SearchError(
                "a loss was told for coordinates that are not pending\n"
                "only what was asked, and not told yet, moves the search as its algorithm says\n"
                "tell each loss once, with the very coordinates that ask returned"
            )
        candidate = self._pending[key].popleft()
        if not self._pending[key]:
            del self._pending[key]
        if self._before is not None:
            self._before(self._told)
        self._optimizer.tell(candidate, self._scaled(loss))
        self._told += 1
        if self._check is not None:
            self._check(self._told)

    def _scaled(self, loss: Loss) -> float | list[float]:
        """What Nevergrad is told of `loss`."""
        if isinstance(loss, Sequence | np.ndarray):
            values = np.minimum(np.asarray(loss, dtype=np.float64), LARGEST_LOSS)
            return [float(value) for value in (values - self._low) / self._width]
        return min(float(loss), LARGEST_LOSS)

    def _begin(self, seeds: Seeds, told: int, enter: Callable[[ng.p.Parameter, int], None] | None, gains: bool) -> None:
        """Tell the algorithm the first seeds, and of several objectives the front all of them.

        The front is what a new candidate's volume is measured against where there are several objectives. It is no part
        of the algorithm, which for CMA must not see candidates of others.
        """
        front = None
        if seeds and not isinstance(seeds[0][1], float):
            self._optimizer.num_objectives = len(self._low)
            front = self._optimizer._hypervolume_pareto = Front(self._optimizer, len(self._low), gains=gains)
        for row, (coordinates, loss) in enumerate(seeds[:told]):
            candidate = self._optimizer.parametrization.spawn_child(new_value=coordinates)
            if enter is not None:
                enter(candidate, row)
            self._optimizer.tell(candidate, self._scaled(loss))
        if front is not None:
            on_front = nondominated(np.array([loss for _, loss in seeds]))
            for row, (coordinates, loss) in enumerate(seeds):
                if on_front[row] and row >= told:
                    candidate = self._optimizer.parametrization.spawn_child(new_value=coordinates)
                    candidate._losses = np.array(self._scaled(loss))
                    front.add(candidate)


def _key(coordinates: np.ndarray) -> bytes:
    return (np.asarray(coordinates, dtype=np.float64) + 0.0).tobytes()  # 0.0 and -0.0 are the same coordinate


def _range(seeds: Seeds) -> tuple[np.ndarray, np.ndarray]:
    """The best value and the range of each objective over the seeds."""
    values = np.array([np.atleast_1d(loss) for _, loss in seeds], dtype=np.float64) if seeds else np.zeros((1, 1))
    width = np.ptp(values, axis=0)
    return values.min(axis=0), np.where(width > 0, width, 1.0)
