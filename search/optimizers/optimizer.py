"""Ask/tell optimizers over Nevergrad, each given the seeds in the way that it really uses them.

Coordinates are those of a `Space`: the seeds have unit spread and the better half of them is at the origin.

| optimizer          | what it takes from the seeds                                                    |
| CMA, DiagonalCMA   | the space: it starts at the origin with `sigma`                                 |
| DE, TwoPointsDE    | half of its first population, with their losses                                 |
| PSO                | half of its first swarm, with their losses as personal bests                    |
| OnePlusOne         | the best seed as its first parent; its first question is the origin             |
| TBPSA              | the space: it starts at the origin with `sigma`                                 |
| NGOpt              | as the one of these that Nevergrad chooses for the dimension and the batch      |
| RandomSearch       | the space: it draws around the origin with `sigma`, as a control                |

Nevergrad's budget is never passed on (NGOpt takes a fixed one): it would make a resumed search differ from one that was
longer from the start. Its `num_workers` is the batch, never the number of workers, because it changes the algorithms.

Losses may be told in any order; the same asks and tells in the same order give the same coordinates. With several
objectives a loss is a tuple of K floats. CMA and TBPSA are then told the volume that a candidate adds to the front of all
seeds and candidates so far, PSO and OnePlusOne the volume of that front, from which OnePlusOne draws its parents; DE
replaces by the number of objectives that got better, and takes its differences between members of the front.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from difflib import get_close_matches
from math import sqrt
from typing import Any, Protocol

import numpy as np

from ..errors import SearchError, UnknownOptimizer
from ._adapter import Loss, Seeds
from ._nevergrad import check_cma, cma, differential_evolution, ngopt_choice, one_plus_one, pso, random_search, tbpsa
from .pareto import order

OPTIMIZERS = ("CMA", "DiagonalCMA", "DE", "TwoPointsDE", "PSO", "OnePlusOne", "TBPSA", "NGOpt", "RandomSearch")


class Optimizer(Protocol):
    """What the loop needs. Losses may be told in another order than their coordinates were asked."""

    def ask(self) -> np.ndarray:
        """The next coordinates (dim,)."""

    def tell(self, coordinates: np.ndarray, loss: Loss) -> None:
        """The loss of asked coordinates, or the K losses of several objectives; lower is better, always finite."""


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
    """The named optimizer, deterministic from `seed`.

    `name` is one of `OPTIMIZERS`, or `module:attr` for a callable (dim, batch, seed, seeds) that returns an object with
    `ask` and `tell`: it gets the seeds best first, is told floats, or tuples of floats where there are several
    `objectives`, and in an asynchronous search out of order. `seeds` are (coordinates, loss) of the evaluated seeds, the
    loss a tuple of K floats where there are several objectives.

    Raises:
        UnknownOptimizer: no such name, or it cannot search so many coordinates in such batches.

    Example:
        >>> optimizer = make_optimizer("CMA", 4, batch=8, seed=0)
        >>> optimizer.ask().shape
        (4,)
    """
    check_optimizer(name, dim, batch, objectives)
    seeds = _best_first(seeds, objectives)
    if ":" in name:
        return _Own(name, resolve(name)(dim, batch, seed, seeds), dim)
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
    """The first step, or the spread of first draws, in units of the seeds' spread.

    Example:
        >>> default_sigma("CMA", 16), round(default_sigma("CMA", 64), 2), default_sigma("CMA", 512)
        (0.3, 0.21, 0.1)
    """
    if name == "OnePlusOne":
        return 0.2  # its steps double at each success and fall only by a sixth at each failure: 0.1 to 0.3 are alike
    # The more coordinates, the farther a draw of the same spread lies from the centre, which the seeds put near the
    # optimum. On quadratics and bent valleys of 16, 64 and 512 coordinates these are the best or near it for every
    # algorithm; 0.3 in 64 and 512 is up to 1.5 times worse, 1 up to 8 times worse in 16.
    return min(0.3, max(0.1, 1.7 / sqrt(dim)))


def check_optimizer(name: str, dim: int | None = None, batch: int | None = None, objectives: int = 1) -> None:
    """Refuse what `make_optimizer` cannot make, before anything is evaluated; `dim` and `batch` as far as known.

    Raises:
        UnknownOptimizer: no such name, or it cannot search so many coordinates in such batches.
    """
    if objectives < 1:
        raise SearchError(
            f"{objectives} objectives\na search minimises at least one\nset objectives to 1, or to the number of losses"
        )
    if ":" in name:
        resolve(name)
    elif name not in OPTIMIZERS:
        near = get_close_matches(name, OPTIMIZERS, n=3, cutoff=0.4) or list(OPTIMIZERS)
        raise UnknownOptimizer(
            f"unknown optimizer {name!r}\n"
            f"known are {', '.join(OPTIMIZERS)}, and your own as module:name\n"
            f"did you mean: {', '.join(near)}?"
        )
    elif name in ("CMA", "DiagonalCMA") and dim is not None:
        check_cma(dim)
    elif name == "NGOpt" and dim is not None and batch is not None:
        ngopt_choice(dim, batch)


def resolve(name: str) -> Callable[[int, int, int, Seeds], Any]:
    """The callable behind `module:attr`.

    Raises:
        UnknownOptimizer: it cannot be imported, or is not callable.
    """
    module, _, attribute = name.partition(":")
    try:
        made = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownOptimizer(
            f"optimizer {name!r} cannot be imported\n"
            f"{type(error).__name__}: {error}\n"
            "write it as module:name, and run where `python -c 'import module'` works"
        ) from error
    if not callable(made):
        raise UnknownOptimizer(
            f"optimizer {name!r} is a {type(made).__name__}\n"
            "it must be callable as (dim, batch, seed, seeds)\n"
            "name a function or a class"
        )
    factory: Callable[[int, int, int, Seeds], Any] = made
    return factory


class _Own:
    """A user's optimizer, whose answers are checked: a wrong one would otherwise surface far from its cause."""

    def __init__(self, name: str, optimizer: Any, dim: int) -> None:
        missing = [method for method in ("ask", "tell") if not callable(getattr(optimizer, method, None))]
        if missing:
            raise UnknownOptimizer(
                f"optimizer {name!r} returned a {type(optimizer).__name__} without {' and '.join(missing)}\n"
                "the search calls ask() for coordinates and tell(coordinates, loss) with what they are worth\n"
                "give the object that it returns both methods"
            )
        self._name = name
        self._optimizer = optimizer
        self._dim = dim

    def ask(self) -> np.ndarray:
        answer = self._optimizer.ask()
        try:
            coordinates = np.array(answer, dtype=np.float64)  # a copy: the optimizer may go on in the same array
        except (TypeError, ValueError):
            raise self._refusal(f"a {type(answer).__name__}") from None
        if coordinates.shape != (self._dim,):
            raise self._refusal(f"shape {coordinates.shape}")
        if not np.isfinite(coordinates).all():
            raise self._refusal("NaN or infinity")
        return coordinates

    def tell(self, coordinates: np.ndarray, loss: Loss) -> None:
        self._optimizer.tell(coordinates, loss)

    def _refusal(self, what: str) -> SearchError:
        return SearchError(
            f"ask() of optimizer {self._name!r} returned {what}\n"
            f"a candidate is {self._dim} finite numbers, the coordinates of the search's space\n"
            f"return an array or a list of shape ({self._dim},)"
        )


def _best_first(seeds: Seeds, objectives: int) -> Seeds:
    """Seeds by their loss, or by the order of their fronts; losses as floats, or as tuples of `objectives` floats."""
    if objectives == 1:
        single = [(row, float(np.asarray(loss).item())) for row, loss in seeds]
        return sorted(single, key=lambda pair: pair[1])
    if not seeds:
        return []
    told = [(row, tuple(float(one) for one in np.atleast_1d(loss))) for row, loss in seeds]
    if any(len(loss) != objectives for _, loss in told):
        raise SearchError(
            f"a seed has {sorted({len(loss) for _, loss in told})} losses\n"
            f"the search has {objectives} objectives\n"
            "give each seed a tuple with one float an objective"
        )
    return [told[row] for row in order(np.array([loss for _, loss in told]))]
