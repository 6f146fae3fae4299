"""Held-out rotations or mixtures of the digits: search beside its rivals, test accuracy, mean over data sets and seeds.

    python examples/bench/held_out.py --arch cnn-s,cnn-m,mlp-s --head keep,refit
    python examples/bench/held_out.py --data mixtures --each
    python examples/bench/held_out.py --describe        # conditioned on the data sets' descriptions, not on their images

About 4 minutes on one CPU core for the four designs with the head kept, 3 minutes a design with it refitted. The figures that it printed for the shipped generator stand in README.md.
Each row: data sets which no network of the zoo and no step of the generator's training saw (DATA below);
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
from popgen.data import describe
from popgen.zoo import train_network

DATA = {
    "rotations": [f"digits/rotate:{angle}" for angle in (45, 135, 225, 315)],
    # kinds never seen together, then angles never seen with anything else, then one never seen at all, then three at a time
    "mixtures": ["digits/blur/contrast", "digits/mirror/noise", "digits/invert/contrast"]
    + ["digits/rotate:75/invert", "digits/rotate:255/blur", "digits/rotate:255/mirror"]
    + ["digits/rotate:45/invert", "digits/rotate:90/invert/blur"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="cnn-s,cnn-m,mlp-s,resnet-s")
    parser.add_argument("--data", default="rotations", help="rotations, mixtures, or names of data sets")
    parser.add_argument("--each", action="store_true", help="a line for each data set, too")
    parser.add_argument("--head", default="keep,refit")
    parser.add_argument("--population", type=int, default=16)
    parser.add_argument("--describe", action="store_true")
    parser.add_argument("--prior", choices=["network", "ridge", "kde"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=300)
    parser.add_argument("--generator", default="digits")
    parser.add_argument("--zoo")
    parser.add_argument("--spec", default="zoo_specs/digits.yaml")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = DATA.get(options.data) or options.data.split(",")
    table: dict[str, dict[str, float]] = {}

    def show(title: str, column: dict[str, list[float]]) -> None:
        table[title] = {name: statistics.mean(values) for name, values in column.items()}
        if not options.json:
            print(f"{title}: " + ", ".join(f"{n} {v:.3f}" for n, v in table[title].items()), flush=True)

    for arch in options.arch.split(","):
        trained = {name: [_trained(options.spec, arch, name, s) for s in range(options.seeds)] for name in names}
        for head in options.head.split(","):
            column: dict[str, list[float]] = {}
            for name in names:
                one: dict[str, list[float]] = {}
                for seed in range(options.seeds):
                    found = popgen.search(
                        arch,
                        name,
                        generator=options.generator,
                        zoo=options.zoo,
                        head=head,
                        seed=seed,
                        population=options.population,
                        evaluations=options.evaluations,
                        describe=describe(name) if options.describe else None,
                        prior=options.prior,
                        baselines="all",
                        workers=0,
                        out=tempfile.mkdtemp(),
                    )
                    for row in found[0].rows:
                        one.setdefault(row.name, []).append(row.test_accuracy)
                one["trained"] = trained[name]
                if options.each:
                    show(f"{arch} on {name}, head {head}", one)
                for row_name, values in one.items():
                    column.setdefault(row_name, []).extend(values)
            show(f"{arch}, head {head}", column)
    if options.json:
        print(json.dumps(table, indent=1))


def _trained(spec_file: str, arch: str, data: str, seed: int) -> float:
    """Test accuracy of the zoo's recipe on the target itself, from the zoo's shared start."""
    spec, recipe = ArchSpec.from_config(arch), load(spec_file, Spec).zoo.recipe
    start = build(arch, seed=0).state_dict()
    return train_network(spec, popgen.load_data(data), recipe, start=start, seed=seed)[1]["test_accuracy"]


if __name__ == "__main__":
    main()
