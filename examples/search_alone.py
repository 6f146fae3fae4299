"""The search engine without networks: a seeded search over a plain Python function, resumed if it is run again.

    python examples/search_alone.py

It takes five seconds on one CPU core. With `pool=RayPool(rosenbrock, workers=4)` it runs in several processes, or on a
cluster.
"""

import numpy as np

from search import Budget, Population, SearchSettings, run_search


def rosenbrock(x: np.ndarray) -> float:
    return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())


guesses = Population(np.random.default_rng(0).normal(0.5, 0.3, size=(20, 8)), ["guess"] * 20)
settings = SearchSettings(budget=Budget(evaluations=2000))
found = run_search(rosenbrock, guesses, settings, history_path="runs/rosenbrock.jsonl", key="rosenbrock")
print(f"best guess {found.best_seed_loss:.3f}, best of {found.evaluations} evaluations {found.best_loss:.5f}")
