"""The pool that evaluates a search's candidates: Ray actors, or this process."""

from __future__ import annotations

import os
from typing import Any

from popgen.configs.search import SearchConfig
from popgen.fitness import LatentObjective
from search import LocalPool, Objective, Pool, Population, RaySession
from search import evaluate as engine_evaluate

# Ray is started if evaluations in one process would take more seconds than this; starting it takes about 8 s.
_RAY_PAYS = 20.0


def make_pool(config: SearchConfig, session: RaySession, objective: LatentObjective, population: Population) -> Pool:
    """Ray actors, or this process. `auto` times one candidate: the answer does not depend on where it is computed."""
    how, address = config.compute, cluster_address(config)
    options: dict[str, Any] = {"gpus": how.gpus, "at_once": how.at_once, "timeout": how.timeout}
    workers = how.workers
    if workers == "auto" and joins_cluster(config):
        return _ray_pool(objective, None, address, options)
    if workers == "auto":
        needs_workers = how.timeout is not None or how.gpus > 0
        count = config.evaluations / objective.fitness.cost
        in_process = not needs_workers and evaluation_seconds(objective, population) * count < _RAY_PAYS
        workers = 0 if in_process else (os.cpu_count() or 1)
    if workers == 0:
        return LocalPool(objective, at_once=how.at_once)
    session.start(workers, address)
    return _ray_pool(objective, workers, address, options)


def _ray_pool(objective: LatentObjective, workers: int | None, address: str | None, options: dict[str, Any]) -> Pool:
    from search import RayPool  # noqa: PLC0415 - Ray is imported only where it is used

    return RayPool(objective, workers, address, **options)


def cluster_address(config: SearchConfig) -> str | None:
    """The Ray cluster that the user names, or RAY_ADDRESS does."""
    return config.compute.address or os.environ.get("RAY_ADDRESS") or None


def joins_cluster(config: SearchConfig) -> bool:
    """Whether candidates are evaluated on a cluster that runs already."""
    return cluster_address(config) is not None and config.compute.workers != 0


def evaluation_seconds(objective: Objective, population: Population) -> float:
    """The time of one evaluation: of the population's mean, or of its first member that does not fail; 0 if all do."""
    pool = LocalPool(objective)
    for vector in (population.mean(), *population.vectors):
        if engine_evaluate(pool, [vector])[0].error is None:  # this call fills caches, so that the next is timed
            return engine_evaluate(pool, [vector])[0].seconds
    return 0.0
