"""Nevergrad's optimizers as `search` uses them: seeded, and never restarted behind our back.

Differs from calling Nevergrad: the seeds enter each algorithm at the place that it reads (`suggest` is mostly ignored),
pycma's own stops are off, and an update that Nevergrad would swallow is an error.
"""

from __future__ import annotations

import warnings
from importlib.metadata import version
from math import log
from typing import Any

import nevergrad as ng  # type: ignore[import-untyped]
import numpy as np

from ..errors import SearchError, UnknownOptimizer
from ._adapter import NevergradOptimizer, Seeds

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="Could not import matplotlib")
    from cma.sigma_adaptation import CMAAdaptSigmaCSA  # type: ignore[import-untyped]

# Smaller than Nevergrad's 30 and 40, which a budget of 300 moves only ten and seven times.
DE_POPSIZE = 16
PSO_POPSIZE = 24
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


def cma(dim: int, batch: int, seed: int, sigma: float, seeds: Seeds, *, diagonal: bool) -> NevergradOptimizer:
    """CMA-ES. Its population is the multiple of the batch next to 4 + 3 ln dim, so that no batch straddles two."""
    check_cma(dim)
    popsize = batch * max(1, round((4 + 3 * log(dim)) / batch))
    if popsize < 4:
        popsize = batch * -(-4 // batch)
    # From 300 coordinates on, pycma would adapt its step by two points of each population, which it misses as soon as
    # candidates are asked ahead of the losses. With a first step that fits so many coordinates this rule is as good.
    options = {**NEVER_STOP, "AdaptSigma": CMAAdaptSigmaCSA}
    config = ng.optimizers.ParametrizedCMA(scale=sigma, popsize=popsize, diagonal=diagonal, inopts=options)
    optimizer: Any = config(_parametrization(dim, seed, 1.0), num_workers=batch)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Could not import matplotlib")
        strategy = optimizer.es

    def before(told: int) -> None:
        # pycma takes one population per ask. Where candidates were asked ahead, it may have had no ask since the last.
        if (told + 1) % popsize == 0 and strategy.number_of_solutions_asked == 0:
            strategy.ask(1)

    def check(told: int) -> None:
        # Nevergrad swallows errors of pycma's update and restarts it when it stops: both must be seen.
        if optimizer.es is not strategy or strategy.countiter != told // popsize:
            raise SearchError(
                f"CMA lost its state after {told} evaluations\n"
                f"an update of pycma {version('cma')} failed or stopped inside Nevergrad {version('nevergrad')}\n"
                "search with another optimizer, such as DE, or with a smaller sigma"
            )

    return NevergradOptimizer(optimizer, seeds, gains=True, before=before, check=check)


def check_cma(dim: int) -> None:
    """Refuse one coordinate.

    Raises:
        UnknownOptimizer: there is one coordinate.
    """
    if dim < 2:
        raise UnknownOptimizer(
            f"CMA cannot search {dim} coordinate\n"
            "Nevergrad hands one coordinate to a package that is not installed\n"
            "search with OnePlusOne or DE, or in a space of more coordinates"
        )


def differential_evolution(
    dim: int, batch: int, seed: int, sigma: float, seeds: Seeds, *, two_points: bool
) -> NevergradOptimizer:
    """Differential evolution that starts on the better seeds and on normal draws of `sigma` around the origin."""
    popsize = max(DE_POPSIZE, batch)
    config = ng.optimizers.DifferentialEvolution(popsize=popsize, crossover="twopoints" if two_points else 0.5)
    optimizer = config(_parametrization(dim, seed, sigma), num_workers=batch)
    return NevergradOptimizer(optimizer, seeds, told=_first_population(seeds, popsize))


def _first_population(seeds: Seeds, popsize: int) -> int:
    """How many seeds enter a first population: the better half of the seeds, in at most half of the places; the others are drawn around the origin.

    In many coordinates the seeds are far apart and their better half's mean beats each of them: measured on a quadratic
    of 64, a population of all seeds finds nothing better than that mean in 300 evaluations, this one does.
    """
    return min((len(seeds) + 1) // 2, popsize // 2)


def pso(dim: int, batch: int, seed: int, sigma: float, seeds: Seeds) -> NevergradOptimizer:
    """Particle swarm that starts on the better seeds and on normal draws. In real space: Nevergrad's own PSO overflows in its arctan space."""
    popsize = max(PSO_POPSIZE, batch)
    config = ng.optimizers.ConfPSO(popsize=popsize)
    optimizer = config(_parametrization(dim, seed, sigma), num_workers=batch)
    first = _first_population(seeds, popsize)

    def enter(particle: ng.p.Parameter, row: int) -> None:
        # A told particle has no personal best in Nevergrad, and a speed that knows nothing of the swarm.
        particle.heritage["best_parent"] = particle
        particle.heritage["speed"] = (seeds[(row or first) - 1][0] - seeds[row][0]) / (2 * sigma)

    return NevergradOptimizer(optimizer, seeds, told=first, enter=enter)


def one_plus_one(dim: int, batch: int, seed: int, sigma: float, seeds: Seeds) -> NevergradOptimizer:
    """(1+1) with the one-fifth rule. Its parent is the best seed, until the origin, its first question, or a child is better.

    Of several objectives its parent is drawn from the front.
    """
    config = ng.optimizers.ParametrizedOnePlusOne(use_pareto=True)  # without effect on a single loss
    optimizer: Any = config(_parametrization(dim, seed, sigma), num_workers=batch)
    adapter = NevergradOptimizer(optimizer, seeds, told=1)
    optimizer._sigma = 1.0  # it took the first loss that it was ever told for a success, and doubled its step
    return adapter


def tbpsa(dim: int, batch: int, seed: int, sigma: float, seeds: Seeds) -> NevergradOptimizer:
    """Test-based population-size adaptation from the origin, with a first population of one batch, not of 4 x dim."""
    config = ng.optimizers.ParametrizedTBPSA(naive=True, initial_popsize=max(2, batch // 4))
    return NevergradOptimizer(config(_parametrization(dim, seed, sigma), num_workers=batch), seeds, gains=True)


def random_search(dim: int, batch: int, seed: int, sigma: float, seeds: Seeds) -> NevergradOptimizer:
    """The origin, then normal draws around it: the control for every other optimizer."""
    config = ng.optimizers.RandomSearchMaker(middle_point=True)
    return NevergradOptimizer(config(_parametrization(dim, seed, sigma), num_workers=batch), seeds)


def ngopt_choice(dim: int, batch: int) -> str:
    """The algorithm that Nevergrad's NGOpt chooses for this dimension and batch: CMA, DE or OnePlusOne.

    Raises:
        UnknownOptimizer: it is another one, such as a metamodel, whose inner search runs unseeded against the clock, and
            fails outright in some versions.
    """
    optimizer: Any = ng.optimizers.NGOpt(_parametrization(dim, 0, 1.0), NGOPT_BUDGET, batch)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Could not import matplotlib")
        chosen = str(optimizer.optim.name)
    if chosen not in ("CMA", "DE", "OnePlusOne"):
        why = _metamodel_state() if "MetaModel" in chosen else "it takes no seeds, or cannot be resumed"
        raise UnknownOptimizer(
            f"NGOpt chooses {chosen} for {dim} coordinates in batches of {batch}\n"
            f"{why}\n"
            "search with CMA or DiagonalCMA, or with other coordinates"
        )
    return chosen


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


def _parametrization(dim: int, seed: int, sigma: float) -> ng.p.Array:
    array = ng.p.Array(init=np.zeros(dim)).set_mutation(sigma=sigma)
    array.random_state = np.random.RandomState(seed)
    return array
