"""Every optimizer on toys with known optimum: the best seed, plain Nevergrad with `suggest`, and this search.

    python examples/bench/optimizers.py

It takes about 12 minutes on one CPU core. All columns are at equal numbers of evaluations. There are two toys, whose
optimum has loss 0, in 16, 64 and 512 coordinates:

* `ellipsoid` is a randomly rotated quadratic whose k-th axis weighs 1 / k, so that its condition number is the number
  of coordinates;
* `valley` is the same, but bent: every second axis is shifted by the square of its neighbour, as in Rosenbrock's
  function.

The seeds are 40 draws around a point that is half a spread away from the optimum in each coordinate. Their spread is
0.3 (`--spread`; at 1 Nevergrad's default step happens to be the seeds' spread, which is where it does best). In the
size `512 on 12` seeds and optimum lie in a subspace of 12 dimensions.

All columns are medians of the best loss over the runs, each of which has its own rotation, optimum and seeds. `best
seed` is the best of the 40, `mean` is their mean, which is evaluated too, and `to beat` is the median of the better of
the two. `plain` is Nevergrad from the seeds' mean with every seed and the mean suggested, with its own defaults, the
same number of workers, and the budget passed. `ours / to beat` and `ours / plain` are ratios of medians: below 1 is
better.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import nevergrad as ng
import numpy as np

from search import OPTIMIZERS, Budget, Population, SearchSettings, run_search

Objective = Callable[[np.ndarray], float]
SEEDS = 40
BATCH = 12
TOYS = ("ellipsoid", "valley")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="16,64,512,512on12", help="coordinates; NonK: N of which seeds fill K")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=600, help="in all, seeds and their mean included")
    parser.add_argument("--optimizers", default=",".join(OPTIMIZERS))
    parser.add_argument("--toys", default=",".join(TOYS))
    parser.add_argument("--space", default="auto")
    parser.add_argument("--spread", type=float, default=0.3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = [
        _row(toy, size, name, options.runs, options.evaluations, options.space, options.spread)
        for toy in options.toys.split(",")
        for size in options.sizes.split(",")
        for name in options.optimizers.split(",")
    ]
    print(json.dumps(rows, indent=1) if options.json else _markdown(rows))


def make_toy(toy: str, size: str, run: int, spread: float = 0.3) -> tuple[Objective, Population]:
    """Make the objective and the seeds of one run.

    `size` is "512", or "512on12" for seeds in a subspace of 12 dimensions.
    """
    dim, _, rank = size.partition("on")
    draw = np.random.default_rng([run, int(dim), int(rank or 0)])
    rotation = np.linalg.qr(draw.normal(size=(int(dim), int(dim))))[0]
    weights = 1.0 / np.arange(1, int(dim) + 1)
    # The basis of a subspace is scaled so that each coordinate has the same spread as in a draw of full rank.
    basis = draw.normal(size=(int(rank), int(dim))) / np.sqrt(int(rank)) if rank else np.eye(int(dim))
    optimum = draw.normal(size=len(basis)) @ basis
    centre = optimum + 0.5 * draw.normal(size=len(basis)) @ basis
    seeds = Population(spread * (centre + draw.normal(size=(SEEDS, len(basis))) @ basis), ["drawn"] * SEEDS)

    def objective(vector: np.ndarray) -> float:
        offset = (vector - spread * optimum) / spread @ rotation
        if toy == "valley":
            offset[1::2] += offset[0::2] ** 2
        return float(weights @ offset**2)

    return objective, seeds


def plain(name: str, objective: Objective, seeds: Population, evaluations: int, run: int) -> float:
    """Return the best loss of Nevergrad itself, which gets the seeds by `suggest`."""
    try:
        return _plain(name, objective, seeds, evaluations, run, budget=evaluations)
    except TypeError:
        # With numpy 2.4 the metamodel that NGOpt chooses for a small budget fails; for a larger one it chooses CMA.
        return _plain(name, objective, seeds, evaluations, run, budget=10_000)


def _plain(name: str, objective: Objective, seeds: Population, evaluations: int, run: int, budget: int) -> float:
    array = ng.p.Array(init=seeds.mean())
    array.random_state = np.random.RandomState(run)
    optimizer = ng.optimizers.registry[name](array, budget=budget, num_workers=BATCH)
    for vector in [*seeds.vectors, seeds.mean()]:  # the last is asked first
        optimizer.suggest(vector)
    best = np.inf
    for begun in range(0, evaluations, BATCH):
        asked = [optimizer.ask() for _ in range(min(BATCH, evaluations - begun))]
        for candidate in asked:
            loss = objective(candidate.value)
            best = min(best, loss)
            optimizer.tell(candidate, loss)
    return best


def ours(name: str, objective: Objective, seeds: Population, evaluations: int, run: int, space: str) -> float:
    """Return the best loss of this search."""
    settings = SearchSettings(name, space, BATCH, run, budget=Budget(evaluations=evaluations))
    with tempfile.TemporaryDirectory() as folder:
        found = run_search(objective, seeds, settings, history_path=Path(folder) / "history.jsonl", key="toy")
    return float("nan") if found.best_loss is None else found.best_loss


def _row(
    toy: str, size: str, name: str, runs: int, evaluations: int, space: str, spread: float
) -> dict[str, float | str]:
    seed, mean, rival, own = [], [], [], []
    for run in range(runs):
        objective, seeds = make_toy(toy, size, run, spread)
        seed.append(min(objective(vector) for vector in seeds.vectors))
        mean.append(objective(seeds.mean()))
        rival.append(plain(name, objective, seeds, evaluations, run))
        own.append(ours(name, objective, seeds, evaluations, run, space))
    median = statistics.median
    to_beat = median(map(min, seed, mean))
    return {
        "toy": toy,
        "size": size.replace("on", " on "),
        "optimizer": name,
        "best seed": median(seed),
        "mean": median(mean),
        "to beat": to_beat,
        "plain": median(rival),
        "ours": median(own),
        "ours / to beat": median(own) / to_beat,
        "ours / plain": median(own) / median(rival),
    }


def _markdown(rows: list[dict[str, float | str]]) -> str:
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    for row in rows:
        lines.append("| " + " | ".join(f"{v:.3g}" if isinstance(v, float) else v for v in row.values()) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
