"""What a generator loses of its zoo on the test split, and what it weighs beside smaller forms of the zoo.

    python examples/bench/retrieval.py --refine 40

About five minutes on one CPU core with --refine 40, ten seconds without. `held out` are the seeds that the generator was not
trained on; they are encoded here. Refinement moves the codes of both by gradient, on training images only.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

import popgen
from popgen.audit import arch_rows, compression_report, compression_rows
from popgen.generator.refine import DISTIL, LABELS, LEARNING_RATE, refine_codes
from popgen.weights.network import accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="digits")
    parser.add_argument("--zoo", default="digits")
    parser.add_argument(
        "--refine", type=int, default=0, help="steps of refinement; 0: the stored and encoded codes alone"
    )
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--distil", type=float, default=DISTIL)
    parser.add_argument("--labels", type=float, default=LABELS)
    parser.add_argument("--arch", action="append", help="only these architectures, for the lines below the table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator, zoo = popgen.Generator.from_pretrained(options.generator), popgen.Zoo.open(options.zoo)
    report = compression_report(generator, zoo, "test")
    for titles, rows in (compression_rows(report), arch_rows(report)):
        for row in [titles, *rows]:
            print("  ".join(f"{cell:>15}" if i == 0 else f"{cell:>11}" for i, cell in enumerate(row)), flush=True)
    for held_out in (False, True):
        lost: dict[str, list[float]] = {}
        for arch in options.arch or generator.specs:
            records = zoo.select(arch=arch, held_out=held_out)
            weights, data = zoo.matrix(records), [popgen.load_data(record.data) for record in records]
            spec = generator.spec(arch)
            codes = {"encoded": generator.encode(arch, weights)}
            began = time.perf_counter()
            if options.refine:
                settings = {"learning_rate": options.learning_rate, "images": options.images}
                codes["refined"] = refine_codes(
                    generator,
                    arch,
                    weights,
                    data,
                    codes["encoded"],
                    steps=options.refine,
                    distil=options.distil,
                    labels=options.labels,
                    **settings,
                )
            seconds = (time.perf_counter() - began) / len(records)
            before = [accuracy(spec, flat, one.test) for flat, one in zip(weights, data, strict=True)]
            line = f"{arch:9s} {'held out' if held_out else 'training'}: original {statistics.mean(before):.4f}"
            for name, latents in codes.items():
                decoded = generator.decode(arch, latents)
                after = [accuracy(spec, flat, one.test) for flat, one in zip(decoded, data, strict=True)]
                losses = [a - b for a, b in zip(before, after, strict=True)]
                lost.setdefault(name, []).extend(losses)
                line += f"; {name} lost {100 * statistics.mean(losses):.2f}, at worst {100 * max(losses):.1f}"
            print(line + (f"; {seconds:.2f} s a code" if options.refine else ""), flush=True)
        for name, losses in lost.items():
            print(
                f"{name}: lost on average {100 * statistics.mean(losses):.2f} points, at worst {100 * max(losses):.1f}"
            )


if __name__ == "__main__":
    main()
