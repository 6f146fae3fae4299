"""bfloat16 beside float32: how fast candidates are evaluated, and whether a search would rank them in another order.

    python examples/bench/precision.py                                   # speed of three networks on one core, about a minute
    python examples/bench/precision.py --ranks --checkpoint resnet20.th --data folder:cifar10_jpeg     # also ranks

Speed: images a second of plain eager PyTorch (contiguous images in batches of 100, or 1,000 of the digits), and of the passes
of a search in both precisions. Seconds are the thread's own, repetitions are interleaved, and the figures are medians.

Ranks: candidates are low-rank steps around the checkpoint, as `popgen search --space low-rank` draws them, at the scale of its
first population and at .3 of it, where candidates are as close as they are late in a search. Each is scored on the same
validation images in both precisions. The losses are kept in --out, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kendalltau, spearmanr
from torch import Tensor, nn

from popgen.archs import ArchSpec, build
from popgen.data import load_data
from popgen.fitness import Fitness, make_fitness
from popgen.networks.passes import Passes
from popgen.types import Images
from popgen.weights.mixing import low_rank
from popgen.zoo.imports.matching import fit_tensors
from popgen.zoo.imports.tensors import read_tensors

SCALES = (1.0, 0.3)  # factors for the coordinates, in units of the first population's
RANK = 4  # as in a search
AGAIN = 8  # candidates that a search in bfloat16 scores again in float32


@dataclass(frozen=True)
class Losses:
    """One candidate's loss and accuracy in float32 and in bfloat16."""

    scale: float
    seed: int
    float32: float
    bfloat16: float
    accuracy: float
    accuracy_bfloat16: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", default="resnet20,resnet56,cnn-s", help="networks to time; none: ''")
    parser.add_argument(
        "--images", type=int, default=500, help="images of a repetition, and validation images of a candidate"
    )
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--ranks", action="store_true", help="compare the order of candidates")
    parser.add_argument("--arch", default="resnet20", help="architecture of the candidates")
    parser.add_argument("--checkpoint", type=Path, help="file of its weights; without it random weights")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--head", default="keep", choices=["keep", "refit"])
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("precision.csv"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.archs:
        print("| network | way | images a second | times eager | times float32 |\n|---|---|---|---|---|")
    for arch in filter(None, options.archs.split(",")):
        _print_speed(arch, options.images, options.repeat)
    if options.ranks:
        fitness, flat = _fitness(options)
        losses = _losses(fitness, flat, options.candidates, options.out)
        _print_ranks(losses)


@torch.no_grad()
def _print_speed(arch: str, count: int, repeat: int) -> None:
    spec = ArchSpec.from_config(arch)
    flat = spec.to_flat(build(spec.config, seed=0).state_dict())
    drawn = torch.rand(count, *spec.config.inputs.shape, generator=torch.Generator().manual_seed(0))
    inputs = spec.config.inputs.prepare(drawn)
    net = build(spec.config, seed=0).eval().requires_grad_(False)
    batch = 100 if inputs[0].numel() > 1000 else 1000
    exact, rounded = Passes(spec, inputs), Passes(spec, inputs, bfloat16=True)
    ways: dict[str, Callable[[], Tensor]] = {
        f"eager {batch}": lambda: _eager(net, inputs, batch),
        "float32": lambda: exact.outputs(flat),
        "bfloat16": lambda: rounded.outputs(flat),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(repeat + 1):
        for name, way in ways.items():
            begun = time.thread_time()
            way()
            if i:  # the first fills caches
                seconds[name].append(time.thread_time() - begun)
    rates = {name: count / statistics.median(taken) for name, taken in seconds.items()}
    first = next(iter(rates.values()))
    for name, rate in rates.items():
        print(f"| {arch} | {name} | {rate:.0f} | {rate / first:.2f} | {rate / rates['float32']:.2f} |", flush=True)


def _eager(net: nn.Module, inputs: Images, batch: int) -> Tensor:
    return torch.cat([net(images) for images in inputs.split(batch)])


def _fitness(options: argparse.Namespace) -> tuple[Fitness, Tensor]:
    """The fitness on the first validation images, and the weights around which candidates lie."""
    spec, data = ArchSpec.from_config(options.arch), load_data(options.data)
    fitness = make_fitness(spec, data, data.classes, options.head)
    count = options.images
    train, val = ((x[:count], y[:count]) for x, y in (fitness.train, fitness.val))
    if options.checkpoint is None:
        flat = spec.to_flat(build(spec.config, seed=0).state_dict())
    else:
        flat = spec.to_flat(fit_tensors(spec, read_tensors(options.checkpoint), options.checkpoint)[0])
    return replace(fitness, train=train, val=val), flat


def _losses(fitness: Fitness, flat: Tensor, count: int, out: Path) -> list[Losses]:
    """The losses of all candidates; those that stand in the file are read from it."""
    found = list(_read(out)) if out.exists() else []
    known = {(one.scale, one.seed) for one in found}
    steps = low_rank(fitness.spec, flat, RANK, seed=0)
    rounded = replace(fitness, bfloat16=True)
    with out.open("a", newline="") as file:
        writer = csv.writer(file)
        for scale in SCALES:
            for seed in range(count):
                if (scale, seed) in known:
                    continue
                weights = steps.weights(scale * np.random.default_rng(seed).normal(size=steps.dim))
                one, other = fitness.score(weights), rounded.score(weights)
                found.append(Losses(scale, seed, one.loss, other.loss, one.score, other.score))
                writer.writerow(vars(found[-1]).values())
                file.flush()
    return [one for one in found if one.seed < count]


def _read(file: Path) -> Iterator[Losses]:
    with file.open(newline="") as rows:
        for scale, seed, *values in csv.reader(rows):
            yield Losses(float(scale), int(seed), *map(float, values))


def _print_ranks(losses: list[Losses]) -> None:
    """One row for each scale. Shares and regrets are those of random halves of the candidates, of which 1,000 are drawn."""
    titles = ["scale", "candidates", "best and median loss", "Spearman", "Kendall", "largest change of a loss"]
    titles += ["another best", "its loss in float32 above the best", "the same after the best are scored again"]
    print(f"\n| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for scale in SCALES:
        rows = [one for one in losses if one.scale == scale]
        exact, rounded = np.array([one.float32 for one in rows]), np.array([one.bfloat16 for one in rows])
        generator = np.random.default_rng(0)
        halves = [generator.permutation(len(rows))[: max(2, len(rows) // 2)] for _ in range(1000)]
        regrets, again = (np.array([_regret(exact[i], rounded[i], n) for i in halves]) for n in (1, AGAIN))
        figures = [f"{scale:g}", f"{len(rows)}", f"{exact.min():.4f}, {np.median(exact):.4f}"]
        figures += [f"{spearmanr(exact, rounded)[0]:.4f}", f"{kendalltau(exact, rounded)[0]:.4f}"]
        figures += [f"{np.abs(exact - rounded).max():.4f}", f"{(regrets > 0).mean():.3f}"]
        figures += [f"{regrets.mean():.5f}", f"{again.mean():.5f}"]
        print(f"| {' | '.join(figures)} |")


def _regret(exact: np.ndarray, rounded: np.ndarray, again: int) -> float:
    """How far the candidate that is chosen lies above the best in float32, if the `again` best in bfloat16 are scored again."""
    near = np.argsort(rounded, kind="stable")[:again]
    return float(exact[near].min() - exact.min())


if __name__ == "__main__":
    main()
