"""Overhead of the search engine: milliseconds per evaluation beside the objective, and the speed-up of two workers.

    python examples/bench/overhead.py
    python examples/bench/overhead.py --engine

It takes two minutes on two cores, most of them in Ray Tune; with --engine, which has the engine alone, it takes ten seconds. The
machine should have nothing else to do, and only rows of one run should be compared.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import logging  # noqa: E402

import nevergrad as ng  # noqa: E402
import numpy as np  # noqa: E402
import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.search.nevergrad import NevergradSearch  # noqa: E402

from search import Budget, LocalPool, Population, RayPool, SearchSettings, run_search  # noqa: E402
from search.pools.pool import Pool, Request, evaluate  # noqa: E402

DIM, EVALUATIONS, TRIALS, REPEATS = 64, 600, 20, 5
OPTIMIZERS = ("CMA", "TBPSA", "DE", "OnePlusOne", "NGOpt")


def trivial(vector: np.ndarray) -> float:
    return float(vector @ vector)


def sleeping(vector: np.ndarray) -> float:
    time.sleep(0.05)
    return trivial(vector)


def busy(vector: np.ndarray) -> float:
    """Take about 50 ms of one core, in numpy."""
    matrix = np.full((192, 192), 1.0 / 192.0)
    begun = time.thread_time()
    while time.thread_time() - begun < 0.05:
        matrix = matrix @ matrix
    return trivial(vector)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", action="store_true", help="only searches in this process")
    parser.add_argument("--evaluations", type=int, default=EVALUATIONS, help="of each search in this process")
    arguments = parser.parse_args()
    print(f"{'what':<58}{'ms an evaluation':>18}")
    for name in OPTIMIZERS:
        row(f"search with {name}, in this process: CPU time", engine(name, arguments.evaluations))
    if not arguments.engine:
        with_workers()


def with_workers() -> None:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    local = LocalPool(trivial)
    row("search with CMA, in this process", per_evaluation(lambda: search(local), EVALUATIONS))
    with_pool("search with CMA, two workers", trivial, 2, search, EVALUATIONS)
    with_pool("the pool alone, two workers, a batch of 600", trivial, 2, batch, EVALUATIONS)
    with_pool("the pool alone, two workers, batches of 16", trivial, 2, batches, 37 * 16)
    with_pool("the pool alone, two workers, one by one from an iterator", trivial, 2, one_by_one, EVALUATIONS)
    row("LocalPool alone", per_evaluation(lambda: batch(local), EVALUATIONS))
    row(f"Ray Tune + Nevergrad, {TRIALS} function trials", per_evaluation(lambda: tuned(function_trial), TRIALS))
    row(f"Ray Tune + Nevergrad, {TRIALS} trials, actors reused", per_evaluation(lambda: tuned(ReusedTrial), TRIALS))
    for name, objective in (("50 ms asleep", sleeping), ("50 ms busy", busy)):
        one, two = (rate(objective, workers) for workers in (1, 2))
        print(f"{name + ': two workers against one':<58}{two / one:>16.2f} x   ({one:.1f}, {two:.1f} a second)")
    ray.shutdown()


def row(name: str, milliseconds: float) -> None:
    print(f"{name:<58}{milliseconds:>18.3f}", flush=True)


def per_evaluation(call: Callable[[], object], count: int) -> float:
    """Return the milliseconds that each of `count` evaluations in `call` takes; pools are started before."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) / count * 1e3


def with_pool(
    name: str, objective: Callable[[np.ndarray], float], workers: int, call: Callable[[Pool], object], count: int
) -> None:
    pool = opened(objective, workers)
    row(name, per_evaluation(lambda: call(pool), count))
    pool.close()


def opened(objective: Callable[[np.ndarray], float], workers: int) -> RayPool:
    """Open a pool, and use it until all workers are up."""
    pool = RayPool(objective, workers)
    while pool.size < workers:
        evaluate(pool, [np.zeros(DIM)] * 4)
    evaluate(pool, [np.zeros(DIM)] * 20)
    return pool


def engine(optimizer: str, evaluations: int) -> float:
    """Return the milliseconds of CPU time that each evaluation takes, the least of several searches."""
    local = LocalPool(trivial)
    search(local, optimizer, evaluations)  # the first search imports what it needs
    seconds = []
    for _ in range(REPEATS):
        started = time.process_time()
        search(local, optimizer, evaluations)
        seconds.append(time.process_time() - started)
    return min(seconds) / evaluations * 1e3


def search(pool: Pool, optimizer: str = "CMA", evaluations: int = EVALUATIONS) -> None:
    seeds = Population(np.random.default_rng(0).normal(size=(40, DIM)), ["drawn"] * 40)
    settings = SearchSettings(optimizer=optimizer, budget=Budget(evaluations=evaluations))
    with tempfile.TemporaryDirectory() as folder:
        run_search(None, seeds, settings, history_path=Path(folder) / "history.jsonl", key="bench", pool=pool)


def batch(pool: Pool) -> None:
    evaluate(pool, [np.zeros(DIM)] * EVALUATIONS)


def batches(pool: Pool) -> None:
    for _ in range(37):
        evaluate(pool, [np.zeros(DIM)] * 16)


def one_by_one(pool: Pool) -> None:
    for _ in pool.completed(Request(np.zeros(DIM)) for _ in range(EVALUATIONS)):
        pass


def rate(objective: Callable[[np.ndarray], float], workers: int) -> float:
    """Return the evaluations per second."""
    pool = opened(objective, workers)
    count = 60 * workers
    seconds = per_evaluation(lambda: evaluate(pool, [np.zeros(DIM)] * count), count) / 1e3
    pool.close()
    return 1.0 / seconds


def function_trial(config: dict[str, float]) -> None:
    tune.report({"loss": trivial(np.array([config[f"x{i}"] for i in range(DIM)]))})


class ReusedTrial(tune.Trainable):
    def setup(self, config: dict[str, float]) -> None:
        self.reset_config(config)

    def reset_config(self, config: dict[str, float]) -> bool:
        self._vector = np.array([config[f"x{i}"] for i in range(DIM)])
        return True

    def step(self) -> dict[str, float | bool]:
        return {"loss": trivial(self._vector), "done": True}

    def save_checkpoint(self, folder: str) -> None:
        """Save nothing: Tune asks for a checkpoint at the end of a trial."""


def tuned(trainable: Callable[[dict[str, float]], None] | type[tune.Trainable]) -> None:
    space = ng.p.Dict(**{f"x{i}": ng.p.Scalar(init=0.0) for i in range(DIM)})
    algorithm = NevergradSearch(optimizer=ng.optimizers.CMA, space=space, metric="loss", mode="min")
    with tempfile.TemporaryDirectory() as folder:
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=algorithm,
                num_samples=TRIALS,
                max_concurrent_trials=2,
                reuse_actors=isinstance(trainable, type),
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()


if __name__ == "__main__":
    main()
