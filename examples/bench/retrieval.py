"""Size of a generator and its loss of test accuracy on the zoo's checkpoints, beside float16 and int8 + zstd.

    python examples/bench/retrieval.py
    python examples/bench/retrieval.py --fit 40      # codes of held-out checkpoints fitted by gradient, a second each

It takes a minute on one CPU core for the shipped generator. Training checkpoints are decoded from their stored codes;
checkpoints of seeds that the generator was not trained on are encoded here first. Negative losses are gains.
"""

from __future__ import annotations

import argparse

import torch

import popgen
from popgen.audit.compression import arch_rows, compression_rows, measure_compression
from popgen.generator.fit_codes import CodeFit, fit_codes
from popgen.types import Flat, Latents
from popgen.zoo import Checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="digits")
    parser.add_argument("--zoo", default="digits")
    parser.add_argument("--fit", type=int, default=0, help="gradient steps for codes that are not stored")
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator, zoo = popgen.Generator.from_pretrained(options.generator), popgen.Zoo.open(options.zoo)

    def fit(arch: str, weights: Flat, records: list[Checkpoint]) -> Latents:
        data = [popgen.load_data(record.data) for record in records]
        return fit_codes(generator, arch, weights, data, settings=CodeFit(steps=options.fit))

    for held_out in (False, True):
        if not zoo.select(held_out=held_out):
            continue
        report = measure_compression(generator, zoo, "test", held_out=held_out, encode_new=fit if options.fit else None)
        print(f"{report.checkpoints} {'held-out' if held_out else 'training'} checkpoints")
        for titles, rows in (compression_rows(report), arch_rows(report)):
            for row in [titles, *rows]:
                print("  ".join(f"{cell:>15}" if i == 0 else f"{cell:>11}" for i, cell in enumerate(row)), flush=True)


if __name__ == "__main__":
    main()
