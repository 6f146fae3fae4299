"""A family of shifts around one checkpoint: networks generated from unlabelled images of a shift, beside their rivals; test accuracy.

    popgen zoo build zoo_specs/cifar_resnets.yaml && popgen zoo build zoo_specs/cifar_robust.yaml
    popgen zoo build zoo_specs/cifar_shifts.yaml && popgen train zoo_specs/cifar_shifts.yaml
    python examples/bench/shifts.py --generator generators/cifar_shifts --zoo zoos/cifar_shifts --data folder:cifar10_jpeg

The head is kept, batch norm too; nothing is chosen by test accuracy. Rows: `base`: the checkpoint that the zoo starts from; `generated`:
one network a seed, from unlabelled training images; `no condition`, `other condition`: the same generator told nothing, or
another data set; `average`: of the zoo's networks of the two closest shifts; `best zoo`: by validation loss; `fine-tuned`: the base
trained on the *labelled* validation images, by three recipes, of which the best and the worst by test accuracy are shown; `search`: --evaluations
on the validation images, from the generated population.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import replace

import torch
from torch import Tensor

import popgen
from popgen.baselines.rivals import average
from popgen.configs.spec import Recipe
from popgen.data import DataSet
from popgen.generator import Generator
from popgen.generator.controls import Control
from popgen.networks.forward import task_score
from popgen.zoo import Zoo, train_network

RECIPES = [
    Recipe(epochs=epochs, batch=50, lr=lr, weight_decay=1e-4, augment="flip-crop", batch_norm="frozen")
    for epochs, lr in ((3, 1e-3), (10, 3e-4), (10, 1e-3))
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", required=True)
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--arch", help="[default: the generator's first]")
    parser.add_argument("--data", required=True, help="names separated by commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fine-tune", action="store_true", help="with the rows `fine-tuned`, minutes a data set")
    parser.add_argument("--evaluations", type=int, default=0, help="of a search; 0: none")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    generator, zoo = Generator.from_pretrained(options.generator), Zoo.open(options.zoo)
    arch = options.arch or next(iter(generator.specs))
    table = {}
    for name in options.data.split(","):
        rows = rows_of(generator, zoo, arch, popgen.load_data(name), options)
        table[name] = {row: round(statistics.mean(values), 4) for row, values in rows.items()}
        if not options.json:
            print(f"{name}: " + ", ".join(f"{row} {value:.4f}" for row, value in table[name].items()), flush=True)
    if options.json:
        print(json.dumps(table, indent=1))


def rows_of(
    generator: Generator, zoo: Zoo, arch: str, data: DataSet, options: argparse.Namespace
) -> dict[str, list[float]]:
    """Test accuracies of each row, one a seed where the seed counts."""
    spec, start = generator.spec(arch), zoo.start(arch)

    def tested(flat: Tensor) -> float:
        return task_score(spec, flat, data, "test")

    def generated(control: Control | None = None) -> list[float]:
        seeds = range(options.seeds)
        drawn = [generator.sample(arch, data, 1, seed=seed, control=control) for seed in seeds]
        return [tested(generator.decode(arch, latents)[0]) for latents in drawn]

    records = zoo.select(arch=arch, held_out=False)
    weights = zoo.matrix(records)
    closest = generator.closest(arch, data)
    best = max(weights, key=lambda flat: task_score(spec, flat, data))
    rows = {
        "best zoo": [tested(best)],
        "average": [tested(average(records, weights, closest[:2]))],
        "no condition": generated("empty"),
        "other condition": generated("shuffled"),
        "generated": generated(),
    }
    if start is not None:
        rows = {"base": [tested(start)], **rows}
    if start is not None and options.fine_tune:
        labelled, state = replace(data, train=data.val), spec.to_state(start)
        runs = [
            [
                train_network(spec, labelled, recipe, start=state, seed=seed)[1]["test_accuracy"]
                for seed in range(options.seeds)
            ]
            for recipe in RECIPES
        ]
        rows |= {
            "fine-tuned, best": max(runs, key=statistics.mean),
            "fine-tuned, worst": min(runs, key=statistics.mean),
        }
    if options.evaluations:
        rows["search"] = [_searched(arch, data.name, options, seed) for seed in range(options.seeds)]
    return rows


def _searched(arch: str, data: str, options: argparse.Namespace, seed: int) -> float:
    found = popgen.search(
        arch,
        data,
        generator=options.generator,
        zoo=options.zoo,
        head="keep",
        batch_norm="keep",
        evaluations=options.evaluations,
        seed=seed,
        baselines="none",
        finetune={"mode": "never"},  # the shares of the table come from searches of one budget
        out=tempfile.mkdtemp(),
    )
    return float(found[0].row("search").test_score)


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
