"""Ranking checkpoints: the regret of each method at a share of the image passes of an exhaustive evaluation.

    python examples/bench/ranking.py --zoo digits --data digits/rotate:45 digits/mirror/noise
    python examples/bench/ranking.py --zoo zoos/all24 --data folder:PHOTOS --classes airplane,automobile,bird,...

A ranking sees validation images (`--judge val`: one half of them). Regret is judged on test images (the other half): the
score of the best checkpoint there less that of the chosen one, in points of accuracy. With `names` the score is that of
the networks as they are, their outputs taken by class name; with `features` it is that of a ridge head fitted to the
images that the ranking may see. An exhaustive evaluation shows all these images to all checkpoints.

Rows: `exhaustive` chooses by all images (direct, or the ridge head's leave-one-out loss). `random` and `fixed` choose by
it among as many checkpoints as the share pays for: drawn ones (the mean of 100 draws), or those with the most parameters
and then the highest recorded accuracy on their own data. All others race as `popgen rank` does, and
with --once also look once at a share of the images. Features are computed once for each checkpoint and kept in `--cache`.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from popgen.data import DataSet, Part, load_data
from popgen.data.classes import match_classes
from popgen.files import safe_name, write_tensors
from popgen.fitness.heads import fit_ridge_head
from popgen.networks.passes import Passes
from popgen.ranking.direct import direct
from popgen.ranking.examples import balanced_order
from popgen.ranking.h_score import shrunk_h_score
from popgen.ranking.logme import evidence
from popgen.ranking.methods import METHODS
from popgen.ranking.ridge import ridge
from popgen.ranking.schedule import race_rungs
from popgen.ranking.seen import Seen
from popgen.zoo import Zoo
from search.loop.race import race

_DRAWS = 100  # draws of the random order
Key = Callable[[int, int], float]  # index of a checkpoint, number of images -> what it is ordered by


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", default="digits")
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--data-dir")
    parser.add_argument("--classes", help="names of the outputs, where the zoo does not record them")
    parser.add_argument("--judge", choices=["val", "test"], default="test")
    parser.add_argument(
        "--halve-test", nargs="*", default=[], help="data whose validation images the zoo was trained on"
    )
    parser.add_argument("--most", type=int, default=1000, help="images of a split")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--runs", type=int, nargs="+", help="only checkpoints of these training seeds")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.05, 0.2, 0.5])
    parser.add_argument("--truth", nargs="+", default=["names", "features"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument(
        "--once", action="store_true", help="with rows of one look at a share of the images, without a race"
    )
    parser.add_argument("--cache", help="folder of features; default: a new one")
    parser.add_argument("--json", help="file of all regrets, to which a line is added for each data set and seed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    zoo, regrets = Zoo.open(options.zoo), []
    for name in options.data:
        data = load_data(name, options.data_dir)
        made = features_of(zoo, data, options)
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            for truth in options.truth:
                one = Cell(zoo, data, made, options, seed, truth)
                regrets.append({"data": name, "seed": seed, "truth": truth, "regrets": one.regrets()})
                if options.json:
                    with Path(options.json).open("a") as file:
                        file.write(json.dumps(regrets[-1]) + "\n")
    report(regrets, options.shares)


def features_of(zoo: Zoo, data: DataSet, options: argparse.Namespace) -> dict[str, Tensor]:
    """Features and outputs of every checkpoint on validation and test images, and the targets."""
    folder = Path(options.cache or tempfile.mkdtemp())
    file = folder / f"{safe_name(f'{zoo.name}-{data.name}')[-100:]}.safetensors"
    if file.exists():
        return load_file(file)
    made: dict[str, Tensor] = {}
    for split in ("val", "test"):
        part: Part = getattr(data, split)
        part = part.take(balanced_order(part.targets, 0)[: options.most])
        made[f"{split}/targets"] = part.targets
        for arch in zoo.archs:
            passes = Passes(zoo.spec(arch), zoo.spec(arch).config.inputs.prepare(part.inputs))
            for i, record in enumerate(zoo.records):
                if record.arch == arch:
                    features, outputs = passes.features_and_outputs(zoo.matrix([record])[0])
                    made |= {f"{split}/{i}/features": features, f"{split}/{i}/outputs": outputs}
    write_tensors(file, made)
    return made


class Cell:
    """One data set and seed, judged by the networks' own heads or by refitted ones."""

    def __init__(
        self, zoo: Zoo, data: DataSet, made: dict[str, Tensor], options: argparse.Namespace, seed: int, truth: str
    ) -> None:
        self.zoo, self.options, self.names, self.seed = zoo, options, truth == "names", seed
        names = options.classes.split(",") if options.classes else zoo.records[0].classes
        rows = match_classes(data.classes, names)
        self.rows = None if None in rows else tuple(row for row in rows if row is not None)
        self.classes = len(data.classes)
        seen, judged = self._parts(made, data.name in options.halve_test)
        kept = [i for i, record in enumerate(zoo.records) if options.runs is None or record.seed in options.runs]
        self.records = [zoo.records[i] for i in kept]
        self.seen = [self._seen(made, i, *seen) for i in kept]
        self.truth = [self._true(one, self._seen(made, i, *judged)) for i, one in zip(kept, self.seen, strict=True)]
        self.generator = torch.Generator().manual_seed(seed)

    def regrets(self) -> dict[str, list[float]]:
        """The regret of each method at each share."""
        best, found = max(self.truth), {}
        count = len(self.seen[0])
        whole = direct if self.names else ridge
        full = [whole(one).key for one in self.seen]
        every = range(len(full))
        found["exhaustive"] = [best - self.truth[max(every, key=full.__getitem__)] for _ in self.options.shares]
        for share in self.options.shares:
            few = max(1, round(share * len(full)))
            drawn = [torch.randperm(len(full), generator=self.generator)[:few].tolist() for _ in range(_DRAWS)]
            chosen = [self.truth[max(one, key=full.__getitem__)] for one in drawn]
            found.setdefault("random", []).append(best - statistics.fmean(chosen))
            fixed = self.truth[max(self._fixed_order()[:few], key=full.__getitem__)]
            found.setdefault("fixed", []).append(best - fixed)
        for name in self.options.methods:
            if METHODS[name].names and not self.names:
                continue
            known: dict[tuple[int, int], float] = {}

            def key(i: int, images: int, name: str = name, known: dict[tuple[int, int], float] = known) -> float:
                if (i, images) not in known:
                    known[i, images] = _key(name, self.seen[i].take(torch.arange(images)))
                return known[i, images]

            for share in self.options.shares:
                first = METHODS[name].first_look(self.classes)
                raced = self._raced(key, race_rungs(share, count, first), count)
                found.setdefault(name, []).append(best - self.truth[raced])
                if self.options.once:
                    once = max(every, key=lambda i: key(i, math.ceil(share * count)))
                    found.setdefault(f"{name}, once", []).append(best - self.truth[once])
        return found

    def _parts(self, made: dict[str, Tensor], halve_test: bool) -> tuple[tuple[str, Tensor], tuple[str, Tensor]]:
        """The split and images that a ranking sees, and those that judge it."""
        split = "test" if halve_test else "val"
        order = balanced_order(made[f"{split}/targets"], self.seed)
        halves = (split, order[0::2]), (split, order[1::2])
        if self.options.judge == "test":
            return halves if halve_test else ((split, order), ("test", torch.arange(len(made["test/targets"]))))
        if halve_test:  # the second half judges the test alone
            return (split, order[0::4]), (split, order[2::4])
        return halves

    def _seen(self, made: dict[str, Tensor], i: int, split: str, index: Tensor) -> Seen:
        features, outputs = (made[f"{split}/{i}/{what}"][index] for what in ("features", "outputs"))
        return Seen(features, outputs, made[f"{split}/targets"][index], self.classes, self.rows)

    def _true(self, seen: Seen, judged: Seen) -> float:
        if self.names:
            return direct(judged).value
        head = fit_ridge_head(seen.features, seen.targets, self.classes)
        predicted = (judged.features @ head.weight.T + head.bias).argmax(1)
        return float((predicted == judged.targets).double().mean())

    def _fixed_order(self) -> list[int]:
        """The most parameters first, then the highest accuracy on the data that a checkpoint was trained on."""

        def own(i: int) -> float:
            metrics = self.records[i].metrics
            return next((metrics[key] for key in ("test_accuracy", "accuracy_in_file") if key in metrics), 0.0)

        size = {arch: self.zoo.spec(arch).size for arch in self.zoo.archs}
        return sorted(range(len(self.records)), key=lambda i: (-size[self.records[i].arch], -own(i)))

    def _raced(self, key: Key, rungs: tuple[float, ...], count: int) -> int:
        """The winner of a race."""
        looks = race(len(self.records), rungs)
        look = next(looks)
        while True:
            indices, share, _ = look
            losses = [-key(i, math.ceil(share * count)) for i in indices]
            try:
                look = looks.send(losses)
            except StopIteration:
                return indices[min(range(len(losses)), key=losses.__getitem__)]


def _key(name: str, seen: Seen) -> float:
    """What a method orders by, without the jackknife's standard error, which takes six times as long."""
    if name == "logme":
        return evidence(seen.features, F.one_hot(seen.targets, seen.classes))
    if name == "h-score":
        return shrunk_h_score(seen.features.double().numpy(), seen.targets.numpy())
    return METHODS[name].score(seen).key


def report(regrets: list[dict], shares: list[float]) -> None:
    """One table for each truth: the mean over data sets and seeds, in points of accuracy."""
    for truth in dict.fromkeys(one["truth"] for one in regrets):
        own = [one["regrets"] for one in regrets if one["truth"] == truth]
        print(f"\n{truth}: mean regret over {len(own)} data sets and seeds, points\n")
        print(f"| method | {' | '.join(f'{share:.0%}' for share in shares)} |\n|---|{'---|' * len(shares)}")
        for name in own[0]:
            means = [100 * statistics.fmean(one[name][k] for one in own) for k in range(len(shares))]
            print(f"| {name} | {' | '.join(f'{mean:.2f}' for mean in means)} |", flush=True)


if __name__ == "__main__":
    main()
