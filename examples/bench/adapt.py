"""A published network under shifts, adapted from unlabelled images, beside its rivals; test accuracy of each row of `popgen adapt`.

    python examples/bench/adapt.py --data folder:cifar10_jpeg,cifar10/noise:0.09,cifar10
    python examples/bench/adapt.py --data cifar10/fog_c:5,cifar10/mixed:all_c:5 --stream 500

Networks are chosen by at most --images validation images without their labels, and statistics are measured on as many training images.
With --stream both are the first so many test images, which are then tested on. Test labels are used for the table alone. Several generators, which differ by the
seeds of all trainings, are separated by commas as data sets are. Last come, for each row, its mean over data sets and generators, its mean
for each generator, how far the chosen network is above it with the standard error of paired images, and the row's lowest distance from the base.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace

import torch
from torch import Tensor

from popgen.adaptation.choose import Comparison
from popgen.adaptation.entropy import EntropySteps
from popgen.adaptation.rows import Table
from popgen.configs.adapt import AdaptConfig
from popgen.data.unlabelled import load_images
from popgen.generator import Generator
from popgen.jobs.adapt import drawn, make_decoder, networks_of_zoo
from popgen.networks.passes import Passes

Right = dict[tuple[str, str, str], Tensor]  # (generator, data set, row) -> which test images are right (n,)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="cifar_shifts", help="names or folders")
    parser.add_argument("--arch", default="resnet20")
    parser.add_argument("--data", required=True, help="names of data sets")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--stream", type=int, default=0, help="test images that are adapted to; 0: none")
    parser.add_argument("--tent", type=int, default=3, help="epochs of the rows of TENT; 0: without them")
    parser.add_argument("--eta", type=int, default=0, help="epochs of the rows of ETA; 0: without them")
    parser.add_argument("--zoo", help="of the row `best zoo`")
    parser.add_argument("--bfloat16", action="store_true", help="compare candidates in bfloat16")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    right: Right = {}
    for name in options.generator.split(","):
        generator = Generator.from_pretrained(name)
        generator.load_encoders()
        for data in options.data.split(","):
            rows = rows_of(generator, name, data, options)
            right |= {(name, data, row): values for row, values in rows.items()}
            if not options.json:
                texts = ", ".join(f"{row} {values.mean():.3f}" for row, values in rows.items())
                print(f"{name}, {data}: {texts}", flush=True)
    summary = summarised(right)
    if options.json:
        accuracies = [[*key, round(float(values.mean()), 4)] for key, values in right.items()]
        print(json.dumps({"accuracies": accuracies, "rows": summary}, indent=1))
        return
    for row, one in summary.items():
        seeds = " ".join(f"{value:.3f}" for value in one["each generator"])
        gain = f"chosen {one['chosen above']:+.4f} ± {one['error']:.4f}"
        print(f"{row:18s} mean {one['mean']:.4f} ({seeds}), {gain}, lowest gain {one['lowest gain']:+.4f}")


def rows_of(generator: Generator, name: str, data_name: str, options: argparse.Namespace) -> dict[str, Tensor]:
    """Which test images (n,) each row has right."""
    images = options.stream or options.images
    config = AdaptConfig(arch=options.arch, data=data_name, generator=name, images=images, zoo=options.zoo)
    spec = generator.spec(options.arch)
    data, _ = load_images(data_name, tuple(generator.provenance.classes), spec.config.inputs.shape[-1])
    if options.stream:
        part = data.test.take(torch.arange(min(images, len(data.test))))
        data = replace(data, train=part, val=part, test=part)
    prepare = spec.config.inputs.prepare
    statistics, choice = (prepare(drawn(part, config).inputs) for part in (data.train, data.val))
    decoder = make_decoder(generator, options.arch, data, config.seed)
    comparison = Comparison(decoder, statistics, Passes(spec, choice, bfloat16=options.bfloat16))
    candidates = comparison.candidates()
    steps = tuple(s for s in (EntropySteps("tent", options.tent), EntropySteps("eta", options.eta)) if s.epochs)
    of_zoo = networks_of_zoo(generator, config, lambda _: None)
    table = Table(comparison, candidates, comparison.choose(candidates), of_zoo, steps)
    test = Passes(spec, prepare(data.test.inputs))
    return {row.name: (test.outputs(row.flat).argmax(1) == data.test.targets).float() for row in table.rows()}


def summarised(right: Right) -> dict[str, dict[str, float | list[float]]]:
    """The last columns by row, of the rows that there are everywhere."""
    generators, data = ([*dict.fromkeys(key[i] for key in right)] for i in (0, 1))
    rows = [
        row
        for row in dict.fromkeys(key[2] for key in right)
        if all((g, d, row) in right for g in generators for d in data)
    ]
    found: dict[str, dict[str, float | list[float]]] = {}
    for row in rows:
        accuracy = torch.tensor([[float(right[g, d, row].mean()) for d in data] for g in generators])
        base = torch.tensor([[float(right[g, d, "base"].mean()) for d in data] for g in generators])
        gains = [torch.stack([right[g, d, "chosen"] - right[g, d, row] for g in generators]).mean(0) for d in data]
        found[row] = {
            "mean": round(float(accuracy.mean()), 4),
            "each generator": [round(value, 4) for value in accuracy.mean(1).tolist()],
            "chosen above": round(float(torch.stack([one.mean() for one in gains]).mean()), 4),
            "error": round(paired_error(gains), 4),
            "lowest gain": round(float((accuracy - base).min()), 4),
        }
    return found


def paired_error(gains: list[Tensor]) -> float:
    """The standard error of the mean over data sets of the means of gains (n,); sets of one size are taken for the same images."""
    variance = 0.0
    for size in {len(one) for one in gains}:
        same = torch.stack([one for one in gains if len(one) == size]).sum(0)
        variance += float(same.var()) / size
    return math.sqrt(variance) / len(gains)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
