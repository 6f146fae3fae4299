"""Speed of evaluations: images per second on one core, for plain eager PyTorch and for the passes of a search.

    python examples/bench/fitness.py                         # ResNet20 and ResNet56, some minutes on one core
    python examples/bench/fitness.py --checkpoints DIR --images cifar10.npz      # trained networks, CIFAR-10 test images

`eager` is the plain module on contiguous images in batches of 100 or 1,000; `fitness` is Fitness.score; `stage 3` the same
where candidates differ in layer3 and the head only (--parts 'layer3*,linear*'); `refit` with the head refitted on as many
images again, which are counted, beside the same by eager batches of 100. Seconds are the process's own on its core, and
repetitions are interleaved, so that other work on the machine matters little; the figures are medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popgen.archs import ArchSpec, build
from popgen.fitness import Fitness, fit_ridge_head
from popgen.fitness.loss import classification_loss
from popgen.types import Images, Labels
from popgen.weights.mask import Mask
from popgen.zoo.imports.matching import fit_tensors
from popgen.zoo.imports.tensors import read_tensors


@dataclass(frozen=True)
class Way:
    """A way to evaluate a network: how many images go through, and the loss."""

    images: int
    loss: Callable[[], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", default="resnet20,resnet56")
    parser.add_argument("--checkpoints", type=Path, help="folder of ARCH_*.th files; without it random weights")
    parser.add_argument("--images", type=Path, help="npz file with x_train, y_train, x_test, y_test; without it random")
    parser.add_argument("--count", type=int, default=1000, help="images")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--ways", default="eager 100,eager 1000,fitness,stage 3,eager refit,refit")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | way | images a second | times eager | loss | difference |\n|---|---|---|---|---|---|")
    for arch in options.archs.split(","):
        spec = ArchSpec.from_config(arch)
        flat = _weights(spec, options.checkpoints)
        train, val = (_images(spec, options.images, split, options.count) for split in ("train", "test"))
        ways = _ways(spec, flat, train, val)
        _report(arch, {name: ways[name] for name in options.ways.split(",")}, options.repeat)


def _report(arch: str, ways: dict[str, Way], repeat: int) -> None:
    losses = {name: way.loss() for name, way in ways.items()}  # The first call prepares what is prepared only once.
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeat):
        for name, way in ways.items():
            begun = time.process_time()
            way.loss()
            seconds[name].append(time.process_time() - begun)
    base = {"eager refit": "eager refit", "refit": "eager refit"}
    rates = {name: ways[name].images / statistics.median(seconds[name]) for name in ways}
    for name, rate in rates.items():
        other = base.get(name, "eager 100")
        print(
            f"| {arch} | {name} | {rate:.0f} | {rate / rates[other]:.2f} | {losses[name]:.6f} "
            f"| {abs(losses[name] - losses[other]):.1e} |",
            flush=True,
        )


def _ways(spec: ArchSpec, flat: Tensor, train: tuple[Images, Labels], val: tuple[Images, Labels]) -> dict[str, Way]:
    net = build(spec.config, seed=0).eval().requires_grad_(False)
    net.load_state_dict(spec.to_state(flat))
    fitness = Fitness(spec, spec, "keep", "keep", (), train, val)
    names = ("layer3*", "linear*")
    varies = [any(fnmatchcase(tensor.name, name) for name in names) for tensor in spec.tensors]
    mask = torch.cat([torch.full((t.size,), one) for t, one in zip(spec.tensors, varies, strict=True)])
    stage = replace(fitness, mask=Mask(mask, flat, ""))
    refit = replace(fitness, head="refit")
    count, both = len(val[1]), len(val[1]) + len(train[1])
    return {
        "eager 100": Way(count, lambda: classification_loss(_eager(net, val[0], 100), val[1])),
        "eager 1000": Way(count, lambda: classification_loss(_eager(net, val[0], 1000), val[1])),
        "fitness": Way(count, lambda: fitness.score(flat).loss),
        "stage 3": Way(count, lambda: stage.score(flat).loss),
        "eager refit": Way(both, lambda: _eager_refit(net, spec, train, val)),
        "refit": Way(both, lambda: refit.score(flat).loss),
    }


@torch.no_grad()
def _eager(net: nn.Module, inputs: Images, batch: int) -> Tensor:
    return torch.cat([net(images) for images in inputs.split(batch)])


def _eager_refit(net: nn.Module, spec: ArchSpec, train: tuple[Images, Labels], val: tuple[Images, Labels]) -> float:
    """The loss of Fitness.score with a refitted head, by plain torch."""
    seen: list[Tensor] = []
    hook = net.get_submodule(spec.head).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    for inputs, _ in (train, val):
        _eager(net, inputs, 100)
    hook.remove()
    features, others = torch.cat(seen).split([len(train[1]), len(val[1])])
    head = fit_ridge_head(features, train[1], spec.config.classes)
    own = classification_loss(F.linear(others, head.weight, head.bias), val[1])
    total = len(val[1]) * own + len(train[1]) * (head.loss + 1 - head.accuracy)
    return total / (len(val[1]) + len(train[1]))


def _weights(spec: ArchSpec, folder: Path | None) -> Tensor:
    """Those of the first checkpoint of the architecture by name, or an untrained network's."""
    files = [] if folder is None else sorted(folder.glob(f"{spec.name}_*.th"))
    if not files:
        return spec.to_flat(build(spec.config, seed=0).state_dict())
    return spec.to_flat(fit_tensors(spec, read_tensors(files[0]), files[0])[0])


def _images(spec: ArchSpec, file: Path | None, split: str, count: int) -> tuple[Images, Labels]:
    if file is None:
        drawn = torch.Generator().manual_seed(0)
        images = torch.rand(count, *spec.config.inputs.shape, generator=drawn)
        labels = torch.randint(spec.config.classes, (count,), generator=drawn)
        return spec.config.inputs.prepare(images), labels
    with np.load(file) as arrays:
        x, y = torch.tensor(arrays[f"x_{split}"][:count]), torch.tensor(arrays[f"y_{split}"][:count])
    x = (x if x.shape[1] == 3 else x.permute(0, 3, 1, 2)).float() / 255
    return spec.config.inputs.prepare(x.contiguous()), y.long().flatten()


if __name__ == "__main__":
    main()
