"""Architectures that no network of the zoo has: generated networks beside other starts, before and after training.

    popgen zoo build zoo_specs/digits_sizes.yaml
    popgen train zoo_specs/digits_sizes.yaml
    python examples/bench/unseen_archs.py --generator generators/digits-sizes --zoo zoos/digits-sizes

The same for a published zoo, ResNet44 from ResNet20, 32 and 56 (15 minutes on one core):
    python examples/bench/unseen_archs.py --arch resnet44 --data cifar10 --generator generators/cifar_resnets --zoo zoos/cifar_resnets \\
        --epochs 0,1,3 --seeds 1 --recipe '{"lr": 0.001, "batch": 64, "augment": "flip-crop"}' --rows generated,random,weight_selection,zoo_transplant

About 10 minutes on one CPU core for the digits. Test accuracy on digits/rotate:45 and 225, which no network saw, mean over data sets and
seeds; N epochs of the zoo's recipe on the target's training split, with its one-cycle schedule over these N epochs. Nothing
is chosen by test accuracy: a generated network is one sample, a zoo network the best by validation accuracy.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from popgen.baselines.starts import make_starts, repaired, trained_accuracy
from popgen.configs.load import parse
from popgen.configs.spec import Recipe
from popgen.data import DataSet, load_data
from popgen.generator import Generator
from popgen.generator.unseen import SPREAD, Target, find_target, positions_decoder
from popgen.networks.threads import threads
from popgen.weights.transplant import plan_transplant
from popgen.zoo import Zoo

ARCHS = (
    "cnn-s/channels:12-24,cnn-s/channels:48-96,cnn-s/channels:2-4,cnn-m/channels:24-32-32-32,cnn-s/channels:24,"
    "mlp-s/hidden:96,mlp-s/hidden:24,resnet-s/widths:12-24,resnet-s/widths:24-48,resnet-s/blocks:2"
)
ROWS = "generated,random,weight_selection,tile,zoo_transplant,positions"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default=ARCHS)
    parser.add_argument("--data", default="digits/rotate:45,digits/rotate:225")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", default="0,1,5")
    parser.add_argument("--rows", default=ROWS, help="also: " + ", ".join(sorted(GENERATED)))
    parser.add_argument("--generator", default="digits")
    parser.add_argument("--zoo", default="digits")
    parser.add_argument("--recipe", type=json.loads, help='changes of the zoo\'s recipe: {"lr": 0.001}', default={})
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    generator, zoo = Generator.from_pretrained(options.generator), Zoo.open(options.zoo)
    own = (zoo.info.get("spec") or {}).get("recipe", {})
    recipe = parse({**own, **options.recipe}, Recipe, f"the recipe of {options.zoo}")
    epochs, rows = [int(n) for n in options.epochs.split(",")], options.rows.split(",")
    everything: dict[str, dict[str, list[float | None]]] = {}
    with threads(1):
        for arch in options.arch.split(","):
            target = find_target(generator, arch)
            column: dict[str, list[list[float]]] = {}
            for data in map(load_data, options.data.split(",")):
                closest = generator.closest(target.source, data)
                for seed in range(options.seeds):
                    for name, flat in _flats(generator, zoo, target, data, closest, seed, rows).items():
                        scores = [trained_accuracy(target.spec, flat, data, recipe, n, seed) for n in epochs]
                        column.setdefault(name, []).append(scores)
            table = {
                name: [statistics.mean(x) for x in zip(*column[name], strict=True)] for name in rows if name in column
            }
            everything[arch] = table | {name: [None] * len(epochs) for name in rows if name not in column}
            if not options.json:
                made = "trained" if target.transplant is None else target.transplant.changes.text()
                print(f"\n{arch} ({target.spec.size} parameters) from {target.source}: {made}")
                print(f"{'epochs':18}" + "".join(f"{n:>8}" for n in epochs))
                for name, values in everything[arch].items():
                    print(f"{name:18}" + "".join("       -" if v is None else f"{v:8.3f}" for v in values), flush=True)
    if options.json:
        print(json.dumps(everything, indent=1))


def _flats(
    generator: Generator, zoo: Zoo, target: Target, data: DataSet, closest: list[str], seed: int, rows: list[str]
) -> dict[str, Tensor]:
    """The starts of one table column, by the name of their row; those that do not exist are left out."""
    starts = make_starts(target, zoo, data, closest, seed)
    flats = {start.name: start.flat for start in starts if start.flat is not None and start.name in rows}
    for name in (row for row in rows if row in GENERATED):
        flats[name] = repaired(target.spec, GENERATED[name](generator, target, data, seed)[None], data)[0]
    return flats


def _generated(generator: Generator, target: Target, data: DataSet, seed: int) -> Tensor:
    return target.decoder(generator).weights(generator.sample(target.source, data, 1, seed=seed)[0].flatten())


def _sliced(generator: Generator, target: Target, data: DataSet, seed: int) -> Tensor:
    """From the smallest trained architecture that is large enough everywhere, where there is one."""
    return _generated(generator, find_target(generator, target.spec.name, "slice"), data, seed)


def _important(generator: Generator, target: Target, data: DataSet, seed: int) -> Tensor:
    """The same, by the units' importance in the generated network itself."""
    found = find_target(generator, target.spec.name, "slice")
    flat = _generated(generator, Target(generator.spec(found.source), found.source), data, seed)
    return plan_transplant(generator.spec(found.source), target.spec, flat, keep="important", spread=SPREAD)(
        flat[None]
    )[0]


def _equal(generator: Generator, target: Target, data: DataSet, seed: int) -> Tensor:
    """Duplicates of a unit share equally what leaves it."""
    return _generated(
        generator, replace(target, transplant=plan_transplant(generator.spec(target.source), target.spec)), data, seed
    )


def _positions(generator: Generator, target: Target, data: DataSet, seed: int) -> Tensor:
    latent = generator.sample(target.source, data, 1, seed=seed)[0]
    return positions_decoder(generator, target).weights(latent.flatten())


GENERATED: dict[str, Callable[[Generator, Target, DataSet, int], Tensor]] = {
    "generated": _generated,
    "positions": _positions,
    "sliced": _sliced,
    "sliced_important": _important,
    "equal_shares": _equal,
}

if __name__ == "__main__":
    main()
