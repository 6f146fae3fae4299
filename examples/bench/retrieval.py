"""What a generator loses of its zoo: mean test accuracy of the checkpoints, as they are and decoded from their codes.

    python examples/bench/retrieval.py

One minute on one CPU core. `held out` are the seeds that the generator was not trained on; they are encoded here.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch

import popgen
from popgen.generator.bundle import generator_folder
from popgen.weights.network import accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="digits")
    parser.add_argument("--zoo", default="digits")
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator, zoo = popgen.Generator.from_pretrained(options.generator), popgen.Zoo.open(options.zoo)
    size = sum(file.stat().st_size for file in Path(generator_folder(options.generator)).iterdir())
    values = sum(generator.spec(r.arch).size for r in zoo.records if not r.held_out)
    print(f"generator {size / 1e6:.1f} MB, training checkpoints {4 * values / 1e6:.1f} MB as float32")
    for held_out in (False, True):
        lost = []
        for arch in generator.specs:
            records = zoo.select(arch=arch, held_out=held_out)
            weights = zoo.matrix(records)
            decoded = generator.decode(arch, generator.encode(arch, weights))
            tests = [popgen.load_data(record.data).test for record in records]
            before = [accuracy(generator.spec(arch), flat, test) for flat, test in zip(weights, tests, strict=True)]
            after = [accuracy(generator.spec(arch), flat, test) for flat, test in zip(decoded, tests, strict=True)]
            lost += [a - b for a, b in zip(before, after, strict=True)]
            kind = "held out" if held_out else "training"
            print(
                f"{arch:9s} {kind}: original {statistics.mean(before):.4f}, decoded {statistics.mean(after):.4f}",
                flush=True,
            )
        print(f"lost on average {100 * statistics.mean(lost):.2f} points, at worst {100 * max(lost):.1f}", flush=True)


if __name__ == "__main__":
    main()
