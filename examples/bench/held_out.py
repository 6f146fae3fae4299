"""Held-out rotations of the digits: search beside its rivals, test accuracy, mean over rotations and seeds.

    python examples/bench/held_out.py --arch cnn-s,cnn-m,mlp-s --head keep,refit

About 4 minutes on one CPU core for the four designs with the head kept, 3 minutes a design with it refitted. The figures that it printed for the shipped generator stand in README.md.
Each row: data sets digits/rotate:45, 135, 225, 315, which no network of the zoo and no step of the generator's training saw;
test split of 497 images, used once for each finished candidate; `trained` is the zoo's own recipe on the target's training split.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile

import torch

import popgen
from popgen.archs import ArchSpec, build
from popgen.config import Spec, load
from popgen.zoo import train_network

ROTATIONS = (45, 135, 225, 315)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="cnn-s,cnn-m,mlp-s,resnet-s")
    parser.add_argument("--head", default="keep,refit")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=300)
    parser.add_argument("--generator", default="digits")
    parser.add_argument("--zoo")
    parser.add_argument("--spec", default="zoo_specs/digits.yaml")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table: dict[str, dict[str, float]] = {}
    for arch in options.arch.split(","):
        trained = [
            _trained(options.spec, arch, rotation, seed) for rotation in ROTATIONS for seed in range(options.seeds)
        ]
        for head in options.head.split(","):
            column: dict[str, list[float]] = {}
            for rotation in ROTATIONS:
                for seed in range(options.seeds):
                    found = popgen.search(
                        arch,
                        f"digits/rotate:{rotation}",
                        generator=options.generator,
                        zoo=options.zoo,
                        head=head,
                        seed=seed,
                        evaluations=options.evaluations,
                        baselines="all",
                        workers=0,
                        out=tempfile.mkdtemp(),
                    )
                    for row in found[0].rows:
                        column.setdefault(row.name, []).append(row.test_accuracy)
            column["trained"] = trained
            table[f"{arch} {head}"] = {name: statistics.mean(values) for name, values in column.items()}
            if not options.json:
                print(
                    f"{arch}, head {head}: " + ", ".join(f"{n} {v:.3f}" for n, v in table[f"{arch} {head}"].items()),
                    flush=True,
                )
    if options.json:
        print(json.dumps(table, indent=1))


def _trained(spec_file: str, arch: str, rotation: int, seed: int) -> float:
    """Test accuracy of the zoo's recipe on the target itself, from the zoo's shared start."""
    spec, recipe = ArchSpec.from_config(arch), load(spec_file, Spec).zoo.recipe
    start = build(arch, seed=0).state_dict()
    return train_network(spec, popgen.load_data(f"digits/rotate:{rotation}"), recipe, start=start, seed=seed)[1][
        "test_accuracy"
    ]


if __name__ == "__main__":
    main()
