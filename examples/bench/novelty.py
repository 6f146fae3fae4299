"""Whether networks generated for held-out rotations are copies: their distance to the nearest training checkpoint.

    python examples/bench/novelty.py

Seconds on one CPU core. Distances are Euclidean in weights divided by each tensor's scale in the zoo, as the generator sees them (norms'
running variances as logarithms). `neighbours`: the median distance between a training checkpoint and those of the two data sets next to its own
(15 degrees away); `siblings`: between two seeds of one data set; `midpoint`: from the average of a held-out rotation's neighbours to the
nearest training checkpoint. `to midpoint`: from generated networks to that average. `spread`: between the generated networks of one data set.
"""

from __future__ import annotations

import argparse
import statistics

import torch

import popgen

ANGLES = (45, 135, 225, 315)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="digits")
    parser.add_argument("--zoo", default="digits")
    parser.add_argument("--samples", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator, zoo = popgen.Generator.from_pretrained(options.generator), popgen.Zoo.open(options.zoo)
    print("            generated  midpoint  neighbours  siblings  to midpoint  spread")
    for arch in generator.specs:
        scaling = generator.scalings[arch]
        records = zoo.select(arch=arch, held_out=False)
        x = scaling.normalise(zoo.matrix(records))
        rows: dict[str, list[int]] = {}
        for i, record in enumerate(records):
            rows.setdefault(record.data, []).append(i)
        angles = [a for a in range(0, 360, 15) if f"digits/rotate:{a}" in rows]
        between = [
            float((x[i] - x[j]).norm())
            for a in angles
            if a + 15 in angles
            for i in rows[f"digits/rotate:{a}"]
            for j in rows[f"digits/rotate:{a + 15}"]
        ]
        siblings = [float((x[r[0]] - x[r[1]]).norm()) for r in rows.values() if len(r) > 1]
        nearest, middle, apart, spread = [], [], [], []
        for a in ANGLES:
            data = popgen.load_data(f"digits/rotate:{a}")
            made = scaling.normalise(generator.decode(arch, generator.sample(arch, data, options.samples)))
            average = x[rows[f"digits/rotate:{a - 15}"] + rows[f"digits/rotate:{(a + 15) % 360}"]].mean(0)
            nearest += torch.cdist(made, x).min(1).values.tolist()
            middle.append(float((x - average).norm(dim=1).min()))
            apart += (made - average).norm(dim=1).tolist()
            spread += torch.pdist(made).tolist()
        columns = [statistics.mean(nearest), statistics.mean(middle), statistics.median(between)]
        columns += [statistics.median(siblings), statistics.mean(apart), statistics.mean(spread)]
        print(f"{arch:9s}" + "".join(f"{value:11.1f}" for value in columns), flush=True)


if __name__ == "__main__":
    main()
