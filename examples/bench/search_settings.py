"""Optimizers, spaces and seeds of a search in the digits generator's latents: the measurement behind the defaults.

    python examples/bench/search_settings.py

About 15 minutes on one CPU core. Each search sees one half of the 300 validation images; the accuracy is that on the other half,
mean over the held-out rotations, architectures and both halves. No test image is touched.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import popgen
from popgen.configs.search import SearchConfig
from popgen.fitness import LatentObjective, make_fitness
from popgen.jobs.searching.population import make_population
from search import Budget, SearchSettings, run_search

SETTINGS: list[dict[str, Any]] = [
    {},
    {"prior_width": 0.0},
    {"prior_width": 0.3},
    {"prior_width": 1.0},
    {"sigma": 0.15},
    {"sigma": 0.6},
    {"experts": 0},
    {"experts": 16},
    {"space": "std"},
    {"space": "pca"},
    {"optimizer": "DiagonalCMA"},
    {"optimizer": "DE"},
    {"optimizer": "PSO"},
    {"optimizer": "OnePlusOne"},
    {"optimizer": "RandomSearch"},
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="cnn-s,cnn-m,mlp-s,resnet-s")
    parser.add_argument("--generator", default="digits")
    parser.add_argument("--settings", type=int, default=len(SETTINGS), help="only the first so many of the list above")
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = popgen.Generator.from_pretrained(options.generator)
    for setting in SETTINGS[: options.settings]:
        by_arch = {
            arch: statistics.mean(
                _held_out_accuracy(generator, arch, rotation, half, setting)
                for rotation in (45, 135, 225, 315)
                for half in (0, 1)
            )
            for arch in options.arch.split(",")
        }
        name = ", ".join(f"{k} {v}" for k, v in setting.items()) or "defaults"
        each = ", ".join(f"{arch} {value:.3f}" for arch, value in by_arch.items())
        print(f"{name:24s} {statistics.mean(by_arch.values()):.4f}   {each}", flush=True)


def _held_out_accuracy(
    generator: popgen.Generator, arch: str, rotation: int, half: int, setting: dict[str, Any]
) -> float:
    config = SearchConfig(archs=[arch], data=f"digits/rotate:{rotation}", seed=half, **setting)
    data = popgen.load_data(config.data)
    population = make_population(generator, arch, data, generator.closest(arch, data), config)
    fitness, decoder = make_fitness(generator.spec(arch), data, data.classes, "keep"), generator.decoder(arch)
    shuffled = torch.randperm(len(data.val), generator=torch.Generator().manual_seed(0))
    seen, unseen = (shuffled.chunk(2)[i] for i in (half, 1 - half))
    on_seen, on_unseen = (replace(fitness, val=(fitness.val[0][i], fitness.val[1][i])) for i in (seen, unseen))
    centre = population.vectors[: config.population].mean(0) if config.prior_width else None
    result = run_search(
        LatentObjective(decoder, on_seen, centre, config.prior_width),
        population,
        SearchSettings(
            config.optimizer, config.space or "identity", config.batch, config.seed, config.sigma, Budget(300)
        ),
        history_path=Path(tempfile.mkdtemp()) / "history.jsonl",
        key=arch,
    )
    assert result.best_vector is not None
    return on_unseen.score(decoder.weights(result.best_vector)).score


if __name__ == "__main__":
    main()
