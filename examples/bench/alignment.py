"""Alignment: accuracy of midpoints of two networks that are unchanged, aligned by weights, or aligned by images.

    python examples/bench/alignment.py --checkpoints FOLDER --images cifar10.npz
    python examples/bench/alignment.py --digits

The first takes pairs of CIFAR-10 ResNets of FOLDER (an index.csv and .th files, as `popgen zoo import` reads them), tests on the
images' test split, and re-estimates batch norm on 1,000 training images: about 10 s a pair of ResNet20 on one core. Published
ResNets were trained on all training images, so only the test split says anything. The second trains independent networks on
scikit-learn's digits, four designs with two seeds each, in two minutes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import Tensor

from popgen.archs import ArchSpec
from popgen.configs.spec import Recipe
from popgen.data import DataSet, load_data
from popgen.networks.batchnorm import reestimate
from popgen.networks.forward import task_score
from popgen.networks.train import train_network
from popgen.weights.align import align
from popgen.zoo.imports.checkpoint import ForeignCheckpoint, import_checkpoint
from popgen.zoo.imports.listing import list_checkpoints

PAIRS = [  # independent runs, then one lineage
    ("resnet20_akamaster", "resnet20_bognev"),
    ("resnet20_dansun-run8-2", "resnet20_dansun-run9-1"),
    ("resnet20_dansun-run5", "resnet20_dansun-run9-1"),
    ("resnet56_verdi-rewind010", "resnet56_verdi-rewind040"),
]
IMAGES, MATCHED = 1000, 256  # for batch norm, and to match units on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--digits", action="store_true")
    options = parser.parse_args()
    print(
        "test accuracy: both ends | midpoint, midpoint with batch norm re-estimated: as they are | by weights | by images"
    )
    if options.digits:
        data = load_data("digits")
        for arch in ("mlp-s", "cnn-s", "cnn-m", "resnet-s"):
            spec = ArchSpec.from_config(arch)
            ends = [
                spec.to_flat(train_network(spec, data, Recipe(epochs=40), start=None, seed=seed)[0]) for seed in (1, 2)
            ]
            print(f"{arch:50} {compare(spec, *ends, data)}", flush=True)
    if options.checkpoints is not None:
        data = load_data(f"npz:{options.images}")
        files = {
            f.path.stem: f
            for f in list_checkpoints(options.checkpoints / "index.csv", ForeignCheckpoint(options.checkpoints))
        }
        for names in PAIRS:
            read = [import_checkpoint(files[name]) for name in names]
            spec = ArchSpec.from_config(read[0][0].arch_config)
            ends = [spec.to_flat(state) for _, state in read]
            print(f"{names[0]} and {names[1]:27} {compare(spec, *ends, data)}", flush=True)


def compare(spec: ArchSpec, one: Tensor, other: Tensor, data: DataSet) -> str:
    inputs = spec.config.inputs.prepare(data.train.inputs[:IMAGES])
    texts = [f"{task_score(spec, one, data, 'test'):.3f} {task_score(spec, other, data, 'test'):.3f}"]
    for moved in (other, align(spec, other, one).weights, align(spec, other, one, inputs[:MATCHED]).weights):
        middle = (one + moved) / 2
        pair = (task_score(spec, flat, data, "test") for flat in (middle, reestimate(spec, middle, inputs)))
        texts.append(" ".join(f"{value:.3f}" for value in pair))
    return " | ".join(texts)


if __name__ == "__main__":
    main()
