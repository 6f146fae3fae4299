"""Does popgen know what it does not know? Data sets inside and outside a generator's family, what is told, and what was true.

    python examples/bench/outside.py                       # the shipped generator of digits: 10 minutes on one core
    python examples/bench/outside.py --scan 80             # the distance alone beside one generated network, 2 minutes
    python examples/bench/outside.py --mnist FOLDER        # a LeNet of one's own on rotations of MNIST, 30 minutes with its generator

FOLDER has mnist.npz. A row is a search: the distance of its data set, whether that is told to be outside before and after
the search, and the test accuracies of the zoo's best, of the search, and after some epochs of training from the search's network and from a random one.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import popgen
from popgen.data import load_data
from popgen.generator import Generator
from popgen.generator.family.look import look
from popgen.networks.forward import task_score

INSIDE = ["rotate:45", "rotate:135", "rotate:225", "rotate:315", "mirror/noise", "rotate:75/invert", "rotate:255/blur"]
INSIDE += ["rotate:90/invert/blur"]
FAR = [
    "invert/mirror/rotate:200",
    "edges/invert",
    "edges/rotate:130",
    "blur:3",
    "pixelate:4",
    "contrast:0.1",
    "motion:5",
]
ROTATIONS = ["rotate:45", "rotate:105", "rotate:135"]
KINDS = ["rotate:%d", "invert", "blur", "edges", "mirror", "noise", "contrast", "threshold", "pixelate:2", "motion:3"]
KINDS += ["impulse:0.1", "gamma:2", "gamma:0.5", "brightness:0.2", "brightness:-0.2", "posterize:3", "noise:0.3"]
KINDS += ["contrast:0.3", "blur:1.6", "impulse:0.2"]
SPEC = """
zoo:
  name: rotations
  archs: ["outside:lenet"]
  data: [mnist, {source: mnist, variants: ["rotate:15", "rotate:30", "rotate:60", "rotate:75", "rotate:90"]}]
  seeds: [0, 1]
  start: 0
  recipe: {epochs: 2, batch: 64}
generator:
  threads: 1
  encoders: {steps: 300, pool: 100}
  vae: {steps: 250, token_width: 256, gate: 0.3}
  prior: {steps: 500}
  tune: {steps: 300, images: 32, networks: 8}
  describe: {steps: 300}
  restore: {rank: 4, steps: 30}
"""


def lenet(classes: int = 10) -> nn.Module:
    """A LeNet of one's own for 28 x 28 grey images."""
    convolutions = [
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
    ]
    head = [nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes)]
    return nn.Sequential(*convolutions, nn.Flatten(), *head)


lenet.input_shape, lenet.mean, lenet.std = (1, 28, 28), (0.1307,), (0.3081,)  # type: ignore[attr-defined]


def own_generator(folder: Path, data_dir: str) -> tuple[str, str]:
    """Train the LeNets and a generator of them in `folder`, unless they are there; returns the generator and the zoo."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = folder / "spec.yaml"
    spec.write_text(SPEC)
    if not (folder / "generator" / "config.json").exists():
        popgen.build_zoo(popgen.read_spec(str(spec))[0].zoo, folder / "zoo", workers=0, data_dir=data_dir)
        popgen.train(str(spec), str(folder / "generator"), zoo=str(folder / "zoo"), data_dir=data_dir)
    return str(folder / "generator"), str(folder / "zoo")


def searched(arch: str, data: str, epochs: int, **settings: Any) -> str:
    """One row of the table, from a search in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        [found] = popgen.search(
            arch, data, out=f"{folder}/run", finetune={"epochs": [epochs]}, compute={"workers": 0}, **settings
        )
    family = found.details.family
    assert family is not None
    trained = [found.row(name).finetuned[-1].test_score for name in ("search", "random")]
    told = ["yes" if family[when] else "no" for when in ("told_before", "told_after")]
    figures = [found.row("best_zoo").test_score, found.row("search").test_score, *trained]
    distance = family["distance"]
    cells = [data, f"{distance['ratio']:.2f}", f"{distance['share_nearer']:.3f}", *told]
    return f"| {' | '.join([*cells, *(f'{figure:.3f}' for figure in figures)])} |"


def scan(count: int, arch: str) -> None:
    """Random mixtures of known and unknown kinds: how often each is told, by the accuracy of one generated network."""
    drawn, found, generator = random.Random(3), [], Generator.from_pretrained("digits")
    names: set[str] = set()
    while len(names) < count:
        kinds = drawn.sample(KINDS, drawn.choice([1, 2, 2, 3]))
        names.add("/".join(["digits", *(kind % drawn.randrange(0, 360, 5) if "%" in kind else kind for kind in kinds)]))
    for name in sorted(names):
        data = load_data(name)
        weights = generator.decode(arch, generator.sample(arch, data, 1, seed=0))[0]
        family = look(generator, arch, data, generator.spec(arch), weights)
        assert family is not None
        found.append((task_score(generator.spec(arch), weights, data), family.distance.is_far))
    print("| accuracy of a generated network | data sets | told before |\n|---|---:|---:|")
    for low, high in ((0.0, 0.6), (0.6, 0.8), (0.8, 0.9), (0.9, 1.01)):
        told = [far for accuracy, far in found if low <= accuracy < high]
        print(f"| {low:.1f} to {min(high, 1):.1f} | {len(told)} | {sum(told)} |")


def report(names: Iterable[str], arch: str, epochs: int, **settings: Any) -> None:
    print(
        f"| data set | distance | nearer | told before | told after | best zoo | search | {epochs} epochs from it | from random |"
    )
    print("|---|---:|---:|---|---|---:|---:|---:|---:|", flush=True)
    for name in names:
        print(searched(arch, name, epochs, **settings), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="mlp-s", help="architecture of the digits")
    parser.add_argument("--data", help="variants, with commas between them")
    parser.add_argument("--evaluations", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=10, help="of training on the digits; 1 with --mnist")
    parser.add_argument("--scan", type=int, help="random variants of the digits, without searches")
    parser.add_argument("--mnist", help="folder with mnist.npz")
    parser.add_argument(
        "--folder", type=Path, default=Path("outside"), help="where the LeNets' zoo and generator are kept"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    names = args.data.split(",") if args.data else ROTATIONS if args.mnist else [*INSIDE, *FAR]
    if args.scan:
        scan(args.scan, args.arch)
    elif args.mnist:
        generator, zoo = own_generator(args.folder, args.mnist)
        own = {"generator": generator, "zoo": zoo, "data_dir": args.mnist, "evaluations": args.evaluations}
        [arch] = Generator.from_pretrained(generator).specs
        report([f"mnist/{name}" for name in names], arch, 1, **own)
    else:
        report([f"digits/{name}" for name in names], args.arch, args.epochs, evaluations=args.evaluations)


if __name__ == "__main__":
    main()
