"""Racing: searches that evaluate every candidate on all images, beside searches that first look at a part of them.

    python examples/bench/racing.py                         # the digits' latents, about 6 minutes on one core
    python examples/bench/racing.py --resnet resnet20.th --images cifar10.npz     # a CIFAR-10 ResNet20, about 40 minutes

Each search sees one half of the images. `loss` is the one that it minimised, on all images of its half, and the
accuracy is that on the other half. With the digits the data are the held-out rotations, and numbers are means over
architectures. With the ResNet20 the images are noisy (sigma 0.08), and the 38 coordinates are a scale and a shift for
each batch norm around the checkpoint.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import popgen
from popgen.archs import ArchSpec
from popgen.configs.search import SearchConfig
from popgen.data.images.variants import noise
from popgen.fitness import Fitness, LatentObjective, make_fitness
from popgen.jobs.searching.population import make_population
from popgen.zoo.imports.matching import fit_tensors
from popgen.zoo.imports.tensors import read_tensors
from search import Budget, Population, SearchResult, SearchSettings, run_search

RUNGS = {"full set": (), "1/2": (0.5,), "1/4, 1/2": (0.25, 0.5), "1/8, 1/4, 1/2": (0.125, 0.25, 0.5)}
# Takes rungs and a budget; returns the result and the accuracy on the other half of the images.
Run = Callable[[tuple[float, ...], int], tuple[SearchResult, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="cnn-s,cnn-m,mlp-s,resnet-s")
    parser.add_argument("--resnet", help="checkpoint of a CIFAR-10 ResNet20")
    parser.add_argument("--images", help="npz file with x_test and y_test of CIFAR-10")
    parser.add_argument("--evaluations", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.resnet:
        runs = _resnet_runs(Path(options.resnet), Path(options.images), options.seeds)
    else:
        runs = _digits_runs(options.arch.split(","), options.seeds)
    print("| rungs | budget | candidates | seconds | loss | accuracy, other half |\n|---|---|---|---|---|---|")
    for budget in (options.evaluations // 2, options.evaluations):
        for name, rungs in RUNGS.items():
            begun = time.perf_counter()
            found = [run(rungs, budget) for run in runs]
            seconds = (time.perf_counter() - begun) / len(found)
            candidates = statistics.mean(_candidates(result, rungs) for result, _ in found)
            losses = [result.best_loss for result, _ in found if result.best_loss is not None]
            print(
                f"| {name} | {budget} | {candidates:.0f} | {seconds:.1f} | {statistics.mean(losses):.4f} "
                f"| {statistics.mean(accuracy for _, accuracy in found):.4f} |",
                flush=True,
            )


def _candidates(result: SearchResult, rungs: tuple[float, ...]) -> float:
    """Return the number of different candidates, computed from the looks that a batch of 12 takes."""
    looks, racing = 12, 12
    for _ in rungs:
        racing = (racing + 1) // 2
        looks += racing
    return result.seeds + (result.looks - result.seeds) * 12 / looks


def _digits_runs(archs: list[str], seeds: int) -> list[Run]:
    generator = popgen.Generator.from_pretrained("digits")

    def run_of(arch: str, rotation: int, seed: int) -> Run:
        def run(rungs: tuple[float, ...], budget: int) -> tuple[SearchResult, float]:
            config = SearchConfig(archs=[arch], data=f"digits/rotate:{rotation}", seed=seed)
            data = popgen.load_data(config.data)
            population = make_population(generator, arch, data, generator.closest(arch, data), config)
            fitness = make_fitness(generator.spec(arch), data, data.classes, "keep")
            centre = population.vectors[: config.population].mean(0)
            settings = SearchSettings(space=config.space or "identity", seed=seed, rungs=rungs, budget=Budget(budget))
            return _search(
                population,
                settings,
                fitness,
                lambda seen: LatentObjective(generator.decoder(arch), seen, centre, config.prior_width, rungs=rungs),
            )

        return run

    return [run_of(arch, rotation, seed) for arch in archs for rotation in (45, 225) for seed in range(seeds)]


@dataclass(frozen=True)
class NormScales:
    """Networks around a checkpoint, with one factor for all weights and one shift for all biases of each batch norm."""

    spec: ArchSpec
    flat: Tensor

    def weights(self, vector: np.ndarray) -> Tensor:
        """Return the weights (p,) at `vector` (2 * norms,).

        The vector has a log factor for each norm, then a shift for each, in units of its biases' standard deviation.
        """
        state = self.spec.to_state(self.flat)
        names = [name.removesuffix(".running_mean") for name in state if name.endswith("running_mean")]
        for name, factor, shift in zip(names, *np.split(vector, 2), strict=True):
            bias = state[f"{name}.bias"]
            state[f"{name}.weight"] = state[f"{name}.weight"] * float(np.exp(factor))
            state[f"{name}.bias"] = bias + float(shift) * bias.std()
        return self.spec.to_flat(state)


def _resnet_runs(checkpoint: Path, images: Path, seeds: int) -> list[Run]:
    spec = ArchSpec.from_config("resnet20")
    state, _ = fit_tensors(spec, read_tensors(checkpoint), checkpoint)
    networks = NormScales(spec, spec.to_flat(state))
    with np.load(images) as arrays:
        x, y = torch.tensor(arrays["x_test"]), torch.tensor(arrays["y_test"]).long().flatten()
    x = noise((x if x.shape[1] == 3 else x.permute(0, 3, 1, 2)).float() / 255, 0.08)
    both = (spec.config.inputs.prepare(x), y)
    fitness = Fitness(spec, spec, "keep", "keep", (), both, both)

    def run_of(seed: int) -> Run:
        def run(rungs: tuple[float, ...], budget: int) -> tuple[SearchResult, float]:
            dim = 2 * sum(name.endswith("running_mean") for name in state)
            vectors = 0.1 * np.random.default_rng(seed).normal(size=(16, dim))
            vectors[0] = 0.0  # the unchanged checkpoint
            settings = SearchSettings(space="std", seed=seed, rungs=rungs, budget=Budget(budget))
            population = Population(vectors, ["checkpoint"] + ["drawn"] * 15)
            return _search(
                population,
                settings,
                fitness,
                lambda seen: LatentObjective(networks, seen, rungs=rungs),  # type: ignore[arg-type]
            )

        return run

    return [run_of(seed) for seed in range(seeds)]


def _search(
    population: Population, settings: SearchSettings, fitness: Fitness, objective: Callable[[Fitness], Any]
) -> tuple[SearchResult, float]:
    """Search on one half of the images of `fitness`; return the result and its accuracy on the other half."""
    shuffled = torch.randperm(len(fitness.val[1]), generator=torch.Generator().manual_seed(0))
    halves = [replace(fitness, val=(fitness.val[0][rows], fitness.val[1][rows])) for rows in shuffled.chunk(2)]
    on_seen = objective(halves[0])
    path = Path(tempfile.mkdtemp()) / "history.jsonl"
    result = run_search(on_seen, population, settings, history_path=path, key="race")
    assert result.best_vector is not None
    return result, halves[1].score(on_seen.decoder.weights(result.best_vector)).score


if __name__ == "__main__":
    main()
