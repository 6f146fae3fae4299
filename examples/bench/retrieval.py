"""What a generator weighs beside its zoo, and what it loses of the zoo's checkpoints: test accuracy, beside float16 and int8 + zstd.

    python examples/bench/retrieval.py
    python examples/bench/retrieval.py --refine 40      # codes of held-out checkpoints moved by gradient, a second each

A minute on one CPU core for the shipped generator. Training checkpoints are given back from their stored codes; those of seeds that the
generator was not trained on are encoded here, and given back from these codes. Negative losses are gains.
"""

from __future__ import annotations

import argparse

import torch

import popgen
from popgen.audit.compression import arch_rows, compression_rows, measure_compression
from popgen.generator.refine import refine_codes
from popgen.types import Flat, Latents
from popgen.zoo import Checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="digits")
    parser.add_argument("--zoo", default="digits")
    parser.add_argument("--refine", type=int, default=0, help="steps of refinement of codes that are not stored")
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator, zoo = popgen.Generator.from_pretrained(options.generator), popgen.Zoo.open(options.zoo)

    def refine(arch: str, weights: Flat, records: list[Checkpoint]) -> Latents:
        data = [popgen.load_data(record.data) for record in records]
        return refine_codes(generator, arch, weights, data, steps=options.refine)

    for held_out in (False, True):
        if not zoo.select(held_out=held_out):
            continue
        report = measure_compression(
            generator, zoo, "test", held_out=held_out, refine=refine if options.refine else None
        )
        print(f"{report.checkpoints} {'held-out' if held_out else 'training'} checkpoints")
        for titles, rows in (compression_rows(report), arch_rows(report)):
            for row in [titles, *rows]:
                print("  ".join(f"{cell:>15}" if i == 0 else f"{cell:>11}" for i, cell in enumerate(row)), flush=True)


if __name__ == "__main__":
    main()
