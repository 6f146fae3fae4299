"""N-way K-shot classification of digits at rotations that no network of the zoo was trained on: which head is best?

    python examples/bench/few_shot.py

Three minutes on one CPU core. An episode is a rotation, N of the ten classes and K training images of each; the generator sees
only these. Test accuracy on all test images of the N classes, mean over episodes and its 95 % interval. The heads: closed-form
ridge regression on the features of a generated network; the rows of that network's own head that belong to the classes, by
name, which need no labels; the nearest class mean of the same features; ridge regression on a random network's features and
on those of the zoo's best checkpoint of the nearest data set.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics

import torch

import popgen
from popgen.archs import ArchSpec
from popgen.baselines.rivals import random_weights
from popgen.data import DataSet
from popgen.fitness import make_fitness
from popgen.networks.forward import network_features, task_score

ROTATIONS = (45, 135, 225, 315)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="cnn-s")
    parser.add_argument("--ways", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--episodes", type=int, default=10, help="of each rotation")
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator, zoo = popgen.Generator.from_pretrained("digits"), popgen.Zoo.open("digits")
    for ways in options.ways:
        for shots in options.shots:
            found: dict[str, list[float]] = {}
            for rotation in ROTATIONS:
                for draw in range(options.episodes):
                    for head, right in episode(generator, zoo, options.arch, rotation, ways, shots, draw).items():
                        found.setdefault(head, []).append(right)
            print(f"{options.arch}, {ways} ways, {shots} shots, {len(found['random, ridge'])} episodes")
            for head, values in found.items():
                interval = 1.96 * statistics.stdev(values) / math.sqrt(len(values))
                print(f"  {head:28s} {100 * statistics.mean(values):5.1f} +- {100 * interval:.1f}", flush=True)


def episode(
    generator: popgen.Generator, zoo: popgen.Zoo, arch: str, rotation: int, ways: int, shots: int, draw: int
) -> dict[str, float]:
    """Test accuracy of each head in one episode."""
    classes = sorted(random.Random(1000 * rotation + draw).sample(range(10), ways))
    name = f"digits/rotate:{rotation}/classes:{'+'.join(map(str, classes))}/shots:{shots}@{draw}"
    data, spec = popgen.load_data(name), generator.spec(arch)
    made = generator.decode(arch, generator.sample(arch, data, 1, seed=draw))[0]
    nearest = generator.closest(arch, data)[0]
    best = max(zoo.select(arch=arch, data=nearest, held_out=False), key=lambda r: r.metrics["val_accuracy"])
    networks = {"generated": made, "random": random_weights(spec, draw), "best of nearest data": zoo.matrix([best])[0]}
    refit, remap = (make_fitness(spec, data, tuple(generator.provenance.classes), head) for head in ("refit", "remap"))
    right = {}
    for kind, flat in networks.items():
        score = refit.score(flat)
        right[f"{kind}, ridge"] = task_score(score.spec, score.flat, data, "test")
        right[f"{kind}, nearest mean"] = nearest_mean(spec, flat, data)
        score = remap.score(flat)
        right[f"{kind}, own rows"] = task_score(score.spec, score.flat, data, "test")
    return right


@torch.no_grad()
def nearest_mean(spec: ArchSpec, flat: torch.Tensor, data: DataSet) -> float:
    """Test accuracy of the class whose mean feature vector is nearest."""
    train, test = (network_features(spec, flat, spec.config.inputs.prepare(p.inputs)) for p in (data.train, data.test))
    means = torch.stack([train[data.train.targets == label].mean(0) for label in range(len(data.classes))])
    return float((torch.cdist(test, means).argmin(1) == data.test.targets).double().mean())


if __name__ == "__main__":
    main()
