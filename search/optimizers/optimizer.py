"""Ask/tell optimizers over Nevergrad, each of which gets the seeds in the way that it uses them.

Coordinates are those of a `Space`: the seeds have unit spread, and the mean of their better half is at the origin.

| optimizer          | how the seeds are used                                                          |
| CMA, DiagonalCMA   | through the space: the search starts at the origin with step `sigma`; for one   |
|                    | coordinate they are TBPSA, see `optimizer_for`                                  |
| DE, TwoPointsDE    | as half of the first population, with their losses                              |
| PSO                | as half of the first swarm, with their losses as personal bests                 |
| OnePlusOne         | the best seed is the first parent; the first candidate is the origin            |
| TBPSA              | through the space: the search starts at the origin with step `sigma`            |
| NGOpt              | as in the one of these that Nevergrad chooses for the dimension and the batch   |
| RandomSearch       | through the space: draws around the origin with `sigma`, as a control           |

The budget is never passed on to Nevergrad (NGOpt gets a fixed one): otherwise a resumed search would differ from one
that had the larger budget from the start. Nevergrad's `num_workers` is the batch, not the number of workers, because it
changes the algorithms.

Feedback may be told in any order; the same asks and tells in the same order give the same coordinates. With several
objectives the feedback is a tuple of K floats. CMA and TBPSA then minimise minus the hypervolume that a candidate adds
to the front of all seeds and candidates so far. PSO and OnePlusOne minimise minus the hypervolume of that front, from
which OnePlusOne draws its parents. DE replaces a candidate by the number of objectives that got better, and takes its
differences between members of the front.
"""

from __future__ import annotations

from math import sqrt
from typing import Any, Protocol

import numpy as np

from ..errors import SearchError, UnknownOptimizer
from .feedback import Feedback, Seeds
from .names import check_optimizer, import_optimizer, optimizer_for
from .pareto import order


class Optimizer(Protocol):
    """Interface between the search loop and an optimizer; feedback may be told in another order than was asked."""

    def ask(self) -> np.ndarray:
        """Return the next coordinates (dim,)."""

    def tell(self, coordinates: np.ndarray, feedback: Feedback) -> None:
        """Tell the feedback for coordinates that `ask` returned: the loss, or a tuple of K losses; all are finite."""


def make_optimizer(
    name: str,
    dim: int,
    *,
    batch: int,
    seed: int,
    sigma: float | None = None,
    seeds: Seeds = (),
    objectives: int = 1,
) -> Optimizer:
    """Make the named optimizer; its candidates are determined by `seed` and the feedback.

    Args:
        name: one of `OPTIMIZERS`, or MODULE:NAME for a callable (dim, batch, seed, seeds) that returns an object with
            `ask` and `tell`. It gets the seeds best first. Its `tell` gets floats, or tuples of floats if there are
            several objectives, and in an asynchronous search not in the order of the asks.
        batch: number of candidates that are asked before the first of them is told.
        sigma: first step in units of the seeds' spread; None means `default_sigma`.
        seeds: (coordinates, feedback) of the evaluated seeds, in any order.
        objectives: K, the number of objectives.

    Raises:
        UnknownOptimizer: there is no such optimizer, or it cannot search so many coordinates in such batches.
        SearchError: the feedback for a seed does not have as many losses as there are objectives.

    Example:
        >>> optimizer = make_optimizer("CMA", 4, batch=8, seed=0)
        >>> optimizer.ask().shape
        (4,)
    """
    check_optimizer(name, dim, batch, objectives)
    seeds = _best_first(seeds, objectives)
    if ":" in name:
        return _CheckedOptimizer(name, import_optimizer(name)(dim, batch, seed, seeds), dim)
    return _from_nevergrad(optimizer_for(name, dim), dim, batch, seed, sigma, seeds)


def _from_nevergrad(name: str, dim: int, batch: int, seed: int, sigma: float | None, seeds: Seeds) -> Optimizer:
    """Make an optimizer of Nevergrad, which is imported here, because the seeds of a search are evaluated without it."""
    from ._nevergrad import (  # noqa: PLC0415 - it takes a second
        cma,
        differential_evolution,
        ngopt_choice,
        one_plus_one,
        pso,
        random_search,
        tbpsa,
    )

    if name == "NGOpt":
        name = ngopt_choice(dim, batch)
    sigma = default_sigma(name, dim) if sigma is None else sigma
    if name in ("CMA", "DiagonalCMA"):
        return cma(dim, batch, seed, sigma, seeds, diagonal=name == "DiagonalCMA")
    if name in ("DE", "TwoPointsDE"):
        return differential_evolution(dim, batch, seed, sigma, seeds, two_points=name == "TwoPointsDE")
    makers = {"PSO": pso, "OnePlusOne": one_plus_one, "TBPSA": tbpsa, "RandomSearch": random_search}
    return makers[name](dim, batch, seed, sigma, seeds)


def default_sigma(name: str, dim: int) -> float:
    """Return the first step, or the standard deviation of the first draws, in units of the seeds' spread.

    Example:
        >>> default_sigma("CMA", 16), round(default_sigma("CMA", 64), 2), default_sigma("CMA", 512)
        (0.3, 0.21, 0.1)
    """
    if name == "OnePlusOne":
        return 0.2  # steps double at each success and shrink by a sixth at each failure, so 0.1 to 0.3 are alike
    # The more coordinates there are, the farther a draw of the same standard deviation lies from the centre, which is
    # near the optimum thanks to the seeds. On quadratics and bent valleys in 16, 64 and 512 coordinates these values
    # are the best or near the best for every algorithm. A step of 0.3 in 64 and 512 coordinates ends up to 1.5 times
    # worse, and a step of 1 in 16 coordinates up to 8 times worse.
    return min(0.3, max(0.1, 1.7 / sqrt(dim)))


class _CheckedOptimizer:
    """A user's optimizer whose coordinates are checked: a wrong shape would otherwise show far from its cause."""

    def __init__(self, name: str, optimizer: Any, dim: int) -> None:
        missing = [method for method in ("ask", "tell") if not callable(getattr(optimizer, method, None))]
        if missing:
            raise UnknownOptimizer(
                f"optimizer {name!r} returned a {type(optimizer).__name__} without {' and '.join(missing)}\n"
                "the search calls ask() for coordinates, and tell(coordinates, loss) when they are evaluated\n"
                "give the object that it returns both methods"
            )
        self._name = name
        self._optimizer = optimizer
        self._dim = dim

    def ask(self) -> np.ndarray:
        answer = self._optimizer.ask()
        try:
            coordinates = np.array(answer, dtype=np.float64)  # a copy, because the optimizer may reuse its array
        except (TypeError, ValueError):
            raise self._refusal(f"a {type(answer).__name__}") from None
        if coordinates.shape != (self._dim,):
            raise self._refusal(f"shape {coordinates.shape}")
        if not np.isfinite(coordinates).all():
            raise self._refusal("NaN or infinity")
        return coordinates

    def tell(self, coordinates: np.ndarray, feedback: Feedback) -> None:
        self._optimizer.tell(coordinates, feedback)

    def _refusal(self, answer: str) -> SearchError:
        return SearchError(
            f"ask() of optimizer {self._name!r} returned {answer}\n"
            f"a candidate is {self._dim} finite numbers, the coordinates of the search's space\n"
            f"return an array or a list of shape ({self._dim},)"
        )


def _best_first(seeds: Seeds, objectives: int) -> Seeds:
    """Sort the seeds by loss, or with several objectives by the order of their fronts; convert losses to floats."""
    if objectives == 1:
        single = [(coordinates, float(np.asarray(loss).item())) for coordinates, loss in seeds]
        return sorted(single, key=lambda pair: pair[1])
    if not seeds:
        return []
    several = [(coordinates, tuple(float(one) for one in np.atleast_1d(losses))) for coordinates, losses in seeds]
    if any(len(losses) != objectives for _, losses in several):
        raise SearchError(
            f"a seed has {sorted({len(losses) for _, losses in several})} losses\n"
            f"the search has {objectives} objectives\n"
            "give each seed a tuple with one float an objective"
        )
    return [several[row] for row in order(np.array([losses for _, losses in several]))]
