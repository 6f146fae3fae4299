"""Which optimizer, space and seeds serve a search in the digits generator's latents: the measurement behind the defaults.

    python examples/bench/search_settings.py

About 10 minutes on two CPU cores. Validation loss and validation accuracy (300 images; no test image is touched), mean over the
held-out rotations, architectures and seeds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

import popgen
from popgen.fitness import LatentObjective, make_fitness
from popgen.jobs.search import make_population
from popgen.search_config import SearchConfig
from search import Budget, SearchSettings, run_search

SETTINGS: list[dict[str, Any]] = [
    {},
    {"sigma": 0.15},
    {"sigma": 0.6},
    {"experts": 0},
    {"experts": 16},
    {"population": 32},
    {"space": "std"},
    {"space": "std", "experts": 16},
    {"space": "pca"},
    {"space": "pca", "experts": 40},
    {"optimizer": "DiagonalCMA"},
    {"optimizer": "DE"},
    {"optimizer": "PSO"},
    {"optimizer": "OnePlusOne"},
    {"optimizer": "RandomSearch"},
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="cnn-s,mlp-s")
    parser.add_argument("--generator", default="digits")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = popgen.Generator.from_pretrained(options.generator)
    for setting in SETTINGS:
        losses, accuracies, dims = [], [], []
        for arch in options.arch.split(","):
            for rotation in (45, 135, 225, 315):
                for seed in range(options.seeds):
                    config = SearchConfig(archs=[arch], data=f"digits/rotate:{rotation}", seed=seed, **setting)
                    data = popgen.load_data(config.data)
                    population = make_population(generator, arch, data, generator.closest(arch, data), config)
                    fitness = make_fitness(generator.spec(arch), data, data.classes, "keep")
                    settings = SearchSettings(
                        config.optimizer, config.space, config.batch, seed, config.sigma, Budget(300)
                    )
                    history = Path(tempfile.mkdtemp()) / "history.jsonl"
                    objective = LatentObjective(generator.decoder(arch), fitness)
                    result = run_search(objective, population, settings, history_path=history, key=arch)
                    losses.append(result.best_loss)
                    accuracies.append(result.best_metrics["accuracy"])
                    dims.append(result.space_dim)
        name = ", ".join(f"{k} {v}" for k, v in setting.items()) or "defaults"
        print(
            f"{name:32s} loss {statistics.mean(losses):.4f}  val accuracy {statistics.mean(accuracies):.4f}  dims {min(dims)}-{max(dims)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
