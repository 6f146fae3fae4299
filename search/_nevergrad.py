"""Nevergrad's optimizers as `search` uses them: seeded, told in ask order, and never restarted behind our back.

Differs from calling Nevergrad: the seeds enter each algorithm at the place that it reads (`suggest` is mostly ignored),
pycma's own stops are off, and an update that Nevergrad would swallow is an error.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Sequence
from importlib.metadata import version
from math import log
from typing import Any

import nevergrad as ng  # type: ignore[import-untyped]
import numpy as np
from nevergrad.optimization.base import Optimizer as NevergradBase  # type: ignore[import-untyped]

from .errors import SearchError, UnknownOptimizer

Seeds = Sequence[tuple[np.ndarray, float]]  # coordinates (dim,) and finite loss, best first

# Smaller than Nevergrad's 30 and 40, which a budget of 300 moves only ten and seven times.
DE_POPSIZE = 16
PSO_POPSIZE = 24
LARGEST_LOSS = 1e20  # Nevergrad clips at 5e20, with a warning
# NGOpt picks its algorithm by a budget. A fixed one keeps the choice when a search is resumed for longer.
NGOPT_BUDGET = 10_000
# Every one of these makes pycma stop, at which Nevergrad silently begins anew at the origin. `mindx` keeps steps above
# the precision of float64, where the two stops without an option (noeffectaxis, noeffectcoord) would come in.
NEVER_STOP: dict[str, Any] = {
    "tolfun": 0,
    "tolfunhist": 0,
    "tolfunrel": 0,
    "tolx": 0,
    "tolfacupx": np.inf,
    "tolupsigma": np.inf,
    "tolflatfitness": np.inf,
    "tolstagnation": 0,
    "tolxstagnation": False,
    "tolconditioncov": np.inf,
    "maxiter": np.inf,
    "mindx": 1e-9,
    "minstd": 1e-9,
    "verbose": -10,  # at Nevergrad's -9 pycma reads new options from a file in the working directory
}


class _Nevergrad:
    """A Nevergrad optimizer that is told in ask order. `check` runs after each tell, given the number told."""

    def __init__(self, optimizer: NevergradBase, check: Callable[[int], None] | None = None) -> None:
        self._optimizer = optimizer
        self._asked: deque[ng.p.Parameter] = deque()
        self._check = check
        self._told = 0

    def ask(self) -> np.ndarray:
        candidate = self._optimizer.ask()
        self._asked.append(candidate)
        return np.array(candidate.value, dtype=np.float64)

    def tell(self, coordinates: np.ndarray, loss: float) -> None:
        candidate = self._asked.popleft()
        if not np.array_equal(candidate.value, coordinates):
            raise SearchError(
                "a loss was told for coordinates that are not the next in ask order\n"
                "the same history is promised for any number of workers\n"
                "tell losses in the order in which coordinates were asked"
            )
        self._optimizer.tell(candidate, min(loss, LARGEST_LOSS))
        self._told += 1
        if self._check is not None:
            self._check(self._told)


def _parametrization(dim: int, seed: int, sigma: float, centre: np.ndarray | None = None) -> ng.p.Array:
    array = ng.p.Array(init=np.zeros(dim) if centre is None else centre).set_mutation(sigma=sigma)
    array.random_state = np.random.RandomState(seed)
    return array


def cma(dim: int, batch: int, seed: int, sigma: float, *, diagonal: bool) -> _Nevergrad:
    """CMA-ES. Its population is the multiple of the batch next to 4 + 3 ln dim, so that no batch straddles two."""
    if dim < 2:
        raise UnknownOptimizer(
            f"CMA cannot search {dim} coordinate\n"
            "Nevergrad hands one coordinate to a package that is not installed\n"
            "search with OnePlusOne or DE, or in a space of more coordinates"
        )
    popsize = batch * max(1, round((4 + 3 * log(dim)) / batch))
    if popsize < 4:
        popsize = batch * -(-4 // batch)
    config = ng.optimizers.ParametrizedCMA(scale=sigma, popsize=popsize, diagonal=diagonal, inopts=dict(NEVER_STOP))
    optimizer: Any = config(_parametrization(dim, seed, 1.0), num_workers=batch)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Could not import matplotlib")
        strategy = optimizer.es

    def check(told: int) -> None:
        # Nevergrad swallows errors of pycma's update and restarts it when it stops: both must be seen.
        if optimizer.es is not strategy or strategy.countiter != told // popsize:
            raise SearchError(
                f"CMA lost its state after {told} evaluations\n"
                f"an update of pycma {version('cma')} failed or stopped inside Nevergrad {version('nevergrad')}\n"
                "search with another optimizer, such as DE, or with a smaller sigma"
            )

    return _Nevergrad(optimizer, check)


def differential_evolution(
    dim: int, batch: int, seed: int, sigma: float, seeds: Seeds, *, two_points: bool
) -> _Nevergrad:
    """Differential evolution that starts on the better seeds and on normal draws of `sigma` around the origin."""
    popsize = max(DE_POPSIZE, batch)
    config = ng.optimizers.DifferentialEvolution(popsize=popsize, crossover="twopoints" if two_points else 0.5)
    parametrization = _parametrization(dim, seed, sigma)
    optimizer = config(parametrization, num_workers=batch)
    for coordinates, loss in _first_population(seeds, popsize):
        optimizer.tell(parametrization.spawn_child(new_value=coordinates), min(loss, LARGEST_LOSS))
    return _Nevergrad(optimizer)


def _first_population(seeds: Seeds, popsize: int) -> Seeds:
    """The better half of the seeds, in at most half of the places; the others are drawn around the origin.

    In many coordinates the seeds are far apart and their better half's mean beats each of them: measured on a quadratic
    of 64, a population of all seeds finds nothing better than that mean in 300 evaluations, this one does.
    """
    return seeds[: min((len(seeds) + 1) // 2, popsize // 2)]


def pso(dim: int, batch: int, seed: int, sigma: float, seeds: Seeds) -> _Nevergrad:
    """Particle swarm that starts on the better seeds and on normal draws. In real space: Nevergrad's own PSO overflows in its arctan space."""
    popsize = max(PSO_POPSIZE, batch)
    parametrization = _parametrization(dim, seed, sigma)
    optimizer = ng.optimizers.ConfPSO(popsize=popsize)(parametrization, num_workers=batch)
    first = _first_population(seeds, popsize)
    for row, (coordinates, loss) in enumerate(first):
        particle = parametrization.spawn_child(new_value=coordinates)
        # A told particle has no personal best in Nevergrad, and a speed that knows nothing of the swarm.
        particle.heritage["best_parent"] = particle
        particle.heritage["speed"] = (first[row - 1][0] - coordinates) / (2 * sigma)
        optimizer.tell(particle, min(loss, LARGEST_LOSS))
    return _Nevergrad(optimizer)


def one_plus_one(dim: int, batch: int, seed: int, sigma: float, seeds: Seeds) -> _Nevergrad:
    """(1+1) with the one-fifth rule, whose first parent is the best seed."""
    centre = seeds[0][0] if seeds else None
    optimizer = ng.optimizers.OnePlusOne(_parametrization(dim, seed, sigma, centre), num_workers=batch)
    if seeds:
        optimizer.tell(optimizer.ask(), min(seeds[0][1], LARGEST_LOSS))  # its first question is the centre itself
    return _Nevergrad(optimizer)


def tbpsa(dim: int, batch: int, seed: int, sigma: float) -> _Nevergrad:
    """Test-based population-size adaptation from the origin, with a first population of one batch, not of 4 x dim."""
    config = ng.optimizers.ParametrizedTBPSA(naive=True, initial_popsize=max(2, batch // 4))
    return _Nevergrad(config(_parametrization(dim, seed, sigma), num_workers=batch))


def random_search(dim: int, batch: int, seed: int, sigma: float) -> _Nevergrad:
    """Normal draws around the origin: the control for every other optimizer."""
    return _Nevergrad(ng.optimizers.RandomSearch(_parametrization(dim, seed, sigma), num_workers=batch))


def ngopt(dim: int, batch: int, seed: int, sigma: float) -> _Nevergrad:
    """Nevergrad's own choice for this dimension and batch.

    Raises:
        UnknownOptimizer: the choice fits a metamodel, whose inner search runs unseeded against the clock, and fails
            outright in some versions.
    """
    optimizer: Any = ng.optimizers.NGOpt(_parametrization(dim, seed, sigma), NGOPT_BUDGET, batch)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Could not import matplotlib")
        chosen = optimizer.optim.name
    if "MetaModel" in chosen:
        raise UnknownOptimizer(
            f"NGOpt chooses {chosen} for {dim} coordinates in batches of {batch}\n"
            f"{_metamodel_state()}\n"
            "search with CMA or DiagonalCMA, or with other coordinates"
        )
    return _Nevergrad(optimizer)


def _metamodel_state() -> str:
    """What is wrong with metamodels in the installed versions, found by running one on eight points."""
    installed = f"Nevergrad {version('nevergrad')} with numpy {version('numpy')}"
    probe = ng.optimizers.MetaModel(ng.p.Array(init=np.zeros(1)), budget=50, num_workers=1)
    try:
        for _ in range(30):
            candidate = probe.ask()
            probe.tell(candidate, float(candidate.value[0] ** 2))
    except TypeError as error:
        return f"its metamodel fails in {installed}: {error}"
    return f"its metamodel searches unseeded against the clock in {installed}: such a search cannot be resumed"
