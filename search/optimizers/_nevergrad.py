"""The optimizers of Nevergrad, each set up with the seeds of the search.

This differs from calling Nevergrad directly in three points. The seeds enter each algorithm in the way that it uses
them, because most algorithms ignore `suggest`. The stopping criteria of pycma are off, so that it is never restarted
silently. And a failed update, which Nevergrad would ignore, is an error.
"""

from __future__ import annotations

import warnings
from importlib.metadata import version
from math import log
from typing import Any

import nevergrad as ng  # type: ignore[import-untyped]
import numpy as np

from ..errors import SearchError, UnknownOptimizer
from ._adapter import NevergradOptimizer
from ._coordinates import Coordinates, QuickCMA
from .feedback import Seeds

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="Could not import matplotlib")
    from cma.sigma_adaptation import CMAAdaptSigmaCSA  # type: ignore[import-untyped]

# Population sizes, smaller than Nevergrad's 30 and 40: a budget of 300 evaluations is only ten and seven generations of
# those.
DE_POPSIZE = 16
PSO_POPSIZE = 24
# NGOpt chooses its algorithm by the budget. With a fixed one the choice stays the same when a search is resumed with a
# larger budget.
NGOPT_BUDGET = 10_000
# Options that switch off the stopping criteria of pycma: when it stops, Nevergrad silently starts it anew at the
# origin. Two criteria (noeffectaxis, noeffectcoord) have no option; `mindx` keeps steps above the precision of float64,
# so that they are never met.
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
    "verbose": -10,  # with Nevergrad's -9, pycma reads new options from a file in the working directory
}


def cma(dim: int, batch: int, seed: int, sigma: float, seeds: Seeds, *, diagonal: bool) -> NevergradOptimizer:
    """Make CMA-ES with its mean at the origin.

    Its population is the multiple of the batch that is nearest to 4 + 3 ln dim, so that no batch spans two populations.
    """
    popsize = batch * max(1, round((4 + 3 * log(dim)) / batch))
    if popsize < 4:
        popsize = batch * -(-4 // batch)
    # From 300 coordinates on, pycma would adapt its step size by two-point adaptation, which fails as soon as
    # candidates are asked ahead of their losses. With an initial step that suits so many coordinates, CSA is as good.
    options = {**NEVER_STOP, "AdaptSigma": CMAAdaptSigmaCSA}
    config = ng.optimizers.ParametrizedCMA(scale=sigma, popsize=popsize, diagonal=diagonal, inopts=options)
    optimizer: Any = QuickCMA(Coordinates(dim, seed, 1.0), num_workers=batch, config=config)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Could not import matplotlib")
        strategy = optimizer.es

    def before(told: int) -> None:
        # pycma accepts one population per ask. If candidates were asked ahead, there may have been no ask since the
        # last.
        if (told + 1) % popsize == 0 and strategy.number_of_solutions_asked == 0:
            strategy.ask(1)

    def check(told: int) -> None:
        # Nevergrad ignores errors of pycma's update: detect them, and the end of a strategy that is not to stop.
        if strategy.countiter != told // popsize or strategy.stop():
            raise SearchError(
                f"CMA lost its state after {told} evaluations\n"
                f"an update of pycma {version('cma')} failed or stopped inside Nevergrad {version('nevergrad')}\n"
                "search with another optimizer, such as DE, or with a smaller sigma"
            )

    return NevergradOptimizer(optimizer, seeds, gains=True, before=before, check=check)


def differential_evolution(
    dim: int, batch: int, seed: int, sigma: float, seeds: Seeds, *, two_points: bool
) -> NevergradOptimizer:
    """Make differential evolution; its first population is the better seeds and normal draws of width `sigma`."""
    popsize = max(DE_POPSIZE, batch)
    config = ng.optimizers.DifferentialEvolution(popsize=popsize, crossover="twopoints" if two_points else 0.5)
    optimizer = config(Coordinates(dim, seed, sigma), num_workers=batch)
    return NevergradOptimizer(optimizer, seeds, told=_seeds_in_population(seeds, popsize))


def _seeds_in_population(seeds: Seeds, popsize: int) -> int:
    """Number of seeds in a first population: the better half of the seeds, but at most half of the population.

    The other members are drawn around the origin, the mean of the better half. In many coordinates the seeds are far
    apart, and that mean is better than each of them. On a quadratic in 64 coordinates a first population of seeds alone
    finds nothing better than the mean in 300 evaluations; this one does.
    """
    return min((len(seeds) + 1) // 2, popsize // 2)


def pso(dim: int, batch: int, seed: int, sigma: float, seeds: Seeds) -> NevergradOptimizer:
    """Make particle swarm optimization; its first swarm is the better seeds and normal draws of width `sigma`.

    It moves in real space: the arctan space of Nevergrad's own PSO overflows.
    """
    popsize = max(PSO_POPSIZE, batch)
    config = ng.optimizers.ConfPSO(popsize=popsize)
    optimizer = config(Coordinates(dim, seed, sigma), num_workers=batch)
    first = _seeds_in_population(seeds, popsize)

    def enter(particle: ng.p.Parameter, row: int) -> None:
        # Nevergrad gives a particle that it has not asked no personal best, and a speed unrelated to the swarm. Here
        # the speed is half of the difference to another seed of the swarm, in units of sigma.
        particle.heritage["best_parent"] = particle
        particle.heritage["speed"] = (seeds[(row or first) - 1][0] - seeds[row][0]) / (2 * sigma)

    return NevergradOptimizer(optimizer, seeds, told=first, enter=enter)


def one_plus_one(dim: int, batch: int, seed: int, sigma: float, seeds: Seeds) -> NevergradOptimizer:
    """Make the (1+1) evolution strategy with the one-fifth rule.

    Its first parent is the best seed, and its first candidate the origin. With several objectives its parents are drawn
    from the front.
    """
    config = ng.optimizers.ParametrizedOnePlusOne(use_pareto=True)  # has no effect with a single objective
    optimizer: Any = config(Coordinates(dim, seed, sigma), num_workers=batch)
    adapter = NevergradOptimizer(optimizer, seeds, told=1)
    optimizer._sigma = 1.0  # undoes the doubling of the step: the first loss ever told counted as a success
    return adapter


def tbpsa(dim: int, batch: int, seed: int, sigma: float, seeds: Seeds) -> NevergradOptimizer:
    """Make TBPSA (test-based population size adaptation) with its mean at the origin.

    Its first population has about the size of a batch, instead of 4 x dim.
    """
    config = ng.optimizers.ParametrizedTBPSA(naive=True, initial_popsize=max(2, batch // 4))
    return NevergradOptimizer(config(Coordinates(dim, seed, sigma), num_workers=batch), seeds, gains=True)


def random_search(dim: int, batch: int, seed: int, sigma: float, seeds: Seeds) -> NevergradOptimizer:
    """Make random search: the origin, then normal draws around it. It is the control for the other optimizers."""
    config = ng.optimizers.RandomSearchMaker(middle_point=True)
    return NevergradOptimizer(config(Coordinates(dim, seed, sigma), num_workers=batch), seeds)


def ngopt_choice(dim: int, batch: int) -> str:
    """Return the algorithm that NGOpt chooses for this dimension and batch: CMA, DE or OnePlusOne.

    Raises:
        UnknownOptimizer: NGOpt chooses another one, such as a metamodel, whose inner search is unseeded and limited by
            time, and which fails in some versions.
    """
    optimizer: Any = ng.optimizers.NGOpt(Coordinates(dim, 0, 1.0), NGOPT_BUDGET, batch)
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
    """Say why the metamodels of the installed versions cannot be used, after trying one."""
    installed = f"Nevergrad {version('nevergrad')} with numpy {version('numpy')}"
    probe = ng.optimizers.MetaModel(ng.p.Array(init=np.zeros(1)), budget=50, num_workers=1)
    try:
        for _ in range(30):
            candidate = probe.ask()
            probe.tell(candidate, float(candidate.value[0] ** 2))
    except TypeError as error:
        return f"its metamodel fails in {installed}: {error}"
    return f"its metamodel searches unseeded against the clock in {installed}: such a search cannot be resumed"
