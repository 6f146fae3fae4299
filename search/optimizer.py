"""Ask/tell optimizers over Nevergrad, each given the seeds in the way that it really uses them.

Coordinates are those of a `Space`: the seeds have unit spread and the better half of them is at the origin.

| optimizer          | what it takes from the seeds                                                    |
| CMA, DiagonalCMA   | the space: it starts at the origin with `sigma`                                 |
| DE, TwoPointsDE    | half of its first population, with their losses                                 |
| PSO                | half of its first swarm, with their losses as personal bests                    |
| OnePlusOne         | the best seed as its first parent                                               |
| TBPSA, NGOpt       | the space: they start at the origin with `sigma`                                |
| RandomSearch       | the space: it draws from a normal of the seeds' spread, as a control            |

Nevergrad's budget is never passed on (NGOpt takes a fixed one): it would make a resumed search differ from one that was
longer from the start. Its `num_workers` is the batch, never the number of workers, because it changes the algorithms.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from difflib import get_close_matches
from typing import Protocol

import numpy as np

from ._nevergrad import Seeds, cma, differential_evolution, ngopt, one_plus_one, pso, random_search, tbpsa
from .errors import UnknownOptimizer

OPTIMIZERS = ("CMA", "DiagonalCMA", "DE", "TwoPointsDE", "PSO", "OnePlusOne", "TBPSA", "NGOpt", "RandomSearch")
DEFAULT_SIGMA = {
    # Of the seeds' spread, around their better half's mean: on quadratics of 6, 16 and 64 coordinates and on seeds on a
    # sheet, 0.2 and 0.3 are alike, 0.5 is up to 1.7 times and 1 up to 4 times worse after 300 evaluations.
    "CMA": 0.3,
    "DiagonalCMA": 0.3,
    "DE": 0.3,  # of the half of the first population that is drawn; 0.3 beats 1 in 6, 16 and 64 coordinates
    "TwoPointsDE": 0.3,
    "PSO": 0.3,
    "OnePlusOne": 0.1,  # it doubles at each success, and falls only by a sixth at each failure
    "TBPSA": 0.3,
    "NGOpt": 0.3,
    "RandomSearch": 1.0,
}


class Optimizer(Protocol):
    """What the loop needs. Losses are told in the order in which their coordinates were asked."""

    def ask(self) -> np.ndarray:
        """The next coordinates (dim,)."""

    def tell(self, coordinates: np.ndarray, loss: float) -> None:
        """The loss of asked coordinates; lower is better, always finite."""


def make_optimizer(
    name: str, dim: int, *, batch: int, seed: int, sigma: float | None = None, seeds: Seeds = ()
) -> Optimizer:
    """The named optimizer, deterministic from `seed`.

    `name` is one of `OPTIMIZERS`, or `module:attr` for a callable (dim, batch, seed, seeds) that returns an object with
    `ask` and `tell`. `seeds` are (coordinates, loss) of the evaluated seeds.

    Raises:
        UnknownOptimizer: no such name, or the installed Nevergrad cannot run it.

    Example:
        >>> optimizer = make_optimizer("CMA", 4, batch=8, seed=0)
        >>> optimizer.ask().shape
        (4,)
    """
    check_optimizer(name)
    seeds = sorted(seeds, key=lambda pair: pair[1])
    if ":" in name:
        made: Optimizer = resolve(name)(dim, batch, seed, seeds)
        return made
    sigma = DEFAULT_SIGMA[name] if sigma is None else sigma
    if name in ("CMA", "DiagonalCMA"):
        return cma(dim, batch, seed, sigma, diagonal=name == "DiagonalCMA")
    if name in ("DE", "TwoPointsDE"):
        return differential_evolution(dim, batch, seed, sigma, seeds, two_points=name == "TwoPointsDE")
    if name == "PSO":
        return pso(dim, batch, seed, sigma, seeds)
    if name == "OnePlusOne":
        return one_plus_one(dim, batch, seed, sigma, seeds)
    if name == "TBPSA":
        return tbpsa(dim, batch, seed, sigma)
    if name == "NGOpt":
        return ngopt(dim, batch, seed, sigma)
    return random_search(dim, batch, seed, sigma)


def check_optimizer(name: str) -> None:
    """Refuse a name that `make_optimizer` does not know, before anything is evaluated.

    Raises:
        UnknownOptimizer: no such name.
    """
    if ":" in name:
        resolve(name)
    elif name not in OPTIMIZERS:
        near = get_close_matches(name, OPTIMIZERS, n=3, cutoff=0.4) or list(OPTIMIZERS)
        raise UnknownOptimizer(
            f"unknown optimizer {name!r}\n"
            f"known are {', '.join(OPTIMIZERS)}, and your own as module:name\n"
            f"did you mean: {', '.join(near)}?"
        )


def resolve(name: str) -> Callable[[int, int, int, Seeds], Optimizer]:
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
    factory: Callable[[int, int, int, Seeds], Optimizer] = made
    return factory
