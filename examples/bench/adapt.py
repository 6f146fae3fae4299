"""A published network under shifts, adapted from unlabelled images, beside its rivals; test accuracy of each row of `popgen adapt`.

    popgen zoo build zoo_specs/cifar_resnets.yaml && popgen zoo build zoo_specs/cifar_robust.yaml
    popgen zoo build zoo_specs/cifar_shifts.yaml && popgen train zoo_specs/cifar_shifts.yaml
    python examples/bench/adapt.py --generator generators/cifar_shifts --data folder:cifar10_jpeg,cifar10/noise:0.09,cifar10

Networks are chosen by at most --images validation images, without their labels; test labels are used for the table alone. The last columns
are the mean over the data sets, and the lowest difference from the base.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile

import torch

import popgen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="cifar_shifts")
    parser.add_argument("--arch", default="resnet20")
    parser.add_argument("--data", required=True, help="names separated by commas")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--tent", type=int, default=3, help="epochs of the rows of TENT and ETA")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    table: dict[str, dict[str, float]] = {}
    for name in options.data.split(","):
        made = popgen.adapt(
            options.arch,
            name,
            tempfile.mkdtemp(),
            generator=options.generator,
            images=options.images,
            tent=options.tent,
            eta=options.tent,
            seed=options.seed,
        )
        table[name] = {row.name: round(row.test_accuracy or 0.0, 4) for row in made.rows}
        if not options.json:
            texts = ", ".join(f"{row} {accuracy:.4f}" for row, accuracy in table[name].items())
            print(f"{name} ({made.seconds:g} s; {made.chosen}): {texts}", flush=True)
    rows = list(next(iter(table.values())))
    summary = {
        row: {
            "mean": round(statistics.mean(one[row] for one in table.values()), 4),
            "lowest gain": round(min(one[row] - one["base"] for one in table.values()), 4),
        }
        for row in rows
    }
    if options.json:
        print(json.dumps({"data": table, "rows": summary}, indent=1))
        return
    for row in rows:
        print(f"{row:20s} mean {summary[row]['mean']:.4f}, lowest gain {summary[row]['lowest gain']:+.4f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
