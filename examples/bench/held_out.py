"""Held-out rotations or mixtures of the digits: search beside its rivals, test accuracy, mean over data sets and seeds.

    python examples/bench/held_out.py --arch cnn-s,cnn-m,mlp-s --head keep,refit
    python examples/bench/held_out.py --data mixtures --each
    python examples/bench/held_out.py --describe        # conditioned on the data sets' descriptions, not on their images

About 4 minutes on one CPU core for the four designs with the head kept, 3 minutes a design with it refitted. The figures that it printed for the shipped generator stand in examples/results/digits.md.
Each row: data sets which no network of the zoo and no step of the generator's training saw (DATA below);
test split of 497 images, used once for each finished candidate; `trained` is the zoo's own recipe on the target's training split.
Two rivals know more than the product could: `neighbours` averages the zoo's networks for the two rotations 15 degrees away (rotations
only), `ridge on CLIP` is a ridge regression to the zoo's weights from the mean CLIP features of each class.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile

import torch
from sklearn.linear_model import RidgeCV
from torch import Tensor

import popgen
from popgen.archs import ArchSpec, build
from popgen.baselines.rivals import average
from popgen.configs.load import load
from popgen.configs.spec import SpecFile
from popgen.data import describe
from popgen.encoders.images import ImageEncoder
from popgen.fitness import make_fitness
from popgen.networks.forward import task_score
from popgen.weights import Scaling
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
    generator = popgen.Generator.from_pretrained(options.generator)
    rivals = Rivals(generator, popgen.Zoo.open(options.zoo or generator.provenance.zoo))

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
                        sampling={"prior": options.prior},
                        baselines="all",
                        compute={"workers": 0},
                        out=tempfile.mkdtemp(),
                    )
                    for row in found[0].rows:
                        one.setdefault(row.name, []).append(row.test_score)
                one |= {row: [value] * options.seeds for row, value in rivals.rows(arch, name, head).items()}
                one["trained"] = trained[name]
                if options.each:
                    show(f"{arch} on {name}, head {head}", one)
                for row_name, values in one.items():
                    column.setdefault(row_name, []).extend(values)
            show(f"{arch}, head {head}", column)
    if options.json:
        print(json.dumps(table, indent=1))


class Rivals:
    """Test accuracies of networks made from the zoo alone, finished as a candidate of the search is."""

    def __init__(self, generator: popgen.Generator, zoo: popgen.Zoo) -> None:
        self.generator, self.zoo = generator, zoo
        self.clip = ImageEncoder.load(generator.config.encoders.images)
        self.known = {r.data: self._features(r.data) for r in zoo.select(held_out=False)}

    def rows(self, arch: str, name: str, head: str) -> dict[str, float]:
        """By their name; `neighbours` only for a rotation alone."""
        records = self.zoo.select(arch=arch, held_out=False)
        weights, scaling = self.zoo.matrix(records), self.generator.scalings[arch]
        made = {"ridge on CLIP": self._ridge(scaling, weights, [self.known[r.data] for r in records], name)}
        variant = name.removeprefix("digits/rotate:")
        if variant.isdigit():
            near = [f"digits/rotate:{(int(variant) + turn) % 360}" for turn in (-15, 15)]
            made["neighbours"] = average(records, weights, near)
        data, spec = popgen.load_data(name), self.generator.spec(arch)
        fitness = make_fitness(spec, data, tuple(self.generator.provenance.classes), head)
        scores = {row: fitness.score(flat) for row, flat in made.items()}
        return {row: task_score(score.spec, score.flat, data.test) for row, score in scores.items()}

    def _ridge(self, scaling: Scaling, weights: Tensor, embeddings: list[Tensor], name: str) -> Tensor:
        x = torch.stack(embeddings).numpy()
        model = RidgeCV(alphas=[10.0**k for k in range(-4, 4)]).fit(x, scaling.normalise(weights).numpy())
        predicted = model.predict(self._features(name)[None].numpy())
        return scaling.denormalise(torch.from_numpy(predicted).float())[0]

    def _features(self, name: str) -> Tensor:
        """Mean features of each class, one after the other."""
        images = popgen.load_data(name).per_class("train", 40, torch.Generator().manual_seed(0))
        return self.clip.features(images.flatten(0, 1)).unflatten(0, images.shape[:2]).mean(1).flatten()


def _trained(spec_file: str, arch: str, data: str, seed: int) -> float:
    """Test accuracy of the zoo's recipe on the target itself, from the zoo's shared start."""
    spec, recipe = ArchSpec.from_config(arch), load(spec_file, SpecFile).zoo.recipe
    start = build(arch, seed=0).state_dict()
    return train_network(spec, popgen.load_data(data), recipe, start=start, seed=seed)[1]["test_accuracy"]


if __name__ == "__main__":
    main()
