"""Generators whose verdict is known, made of a zoo's checkpoints: what `popgen audit` has to say of them is the key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.audit.controls import averages, noisy
from popgen.baselines.rivals import random_weights
from popgen.configs.spec import Recipe, ZooSpec
from popgen.data import load_data
from popgen.files import write_tensors
from popgen.networks.train import train_network
from popgen.weights.align import permuted
from popgen.zoo import Zoo, build_zoo
from popgen.zoo.aligned import align_records

DATA = "digits/rotate:30"


@dataclass(frozen=True)
class PlantedZoo:
    """A zoo of one architecture and data set, all of its networks from one start, or each from its own."""

    folder: Path
    arch: str
    shared: bool
    recipe: Recipe

    @property
    def zoo(self) -> Zoo:
        return Zoo.open(self.folder)

    @property
    def spec(self) -> ArchSpec:
        return self.zoo.spec(self.arch)

    @classmethod
    def build(cls, folder: Path, arch: str, shared: bool, seeds: int, epochs: int) -> PlantedZoo:
        recipe = Recipe(epochs=epochs, batch=50, lr=0.005, weight_decay=0.01)
        start = {"start": 0} if shared else {}
        spec = ZooSpec(
            name="planted", archs=[arch], data=[DATA], seeds=list(range(seeds)), recipe=recipe, workers=0, **start
        )
        build_zoo(spec, folder, progress=False)
        return cls(folder, arch, shared, recipe)

    def generators(self, seed: int, n: int) -> dict[str, tuple[str, Tensor]]:
        """For each planted generator the right word, and n networks (n, p)."""
        other = 77_000 + seed  # no draw is that of a control, which the audit makes with its own seed
        random, spec = torch.Generator().manual_seed(other), self.spec
        weights = self.zoo.matrix(self.zoo.records)
        aligned = torch.stack([one.weights for one in align_records(self.zoo, self.zoo.records, self.zoo.records[0])])
        replayed = weights[torch.randint(len(weights), (n,), generator=random)]
        return {
            "replay": ("copies", replayed),
            "weak noise": ("copies", noisy(spec, weights, 0.05, n, other)),
            "strong noise": ("copies", noisy(spec, weights, 0.4, n, other)),
            "permuted": ("copies", torch.stack([permuted(spec, f, 100 * seed + i) for i, f in enumerate(replayed)])),
            "pairs": ("interpolates", averages(aligned, 2, n, other)),
            "averages": ("interpolates", averages(aligned, 4, n, other)),
            "trained anew": ("novel", self.trained_anew(seed, n)),
            "broken": ("fails", torch.stack([random_weights(spec, 1000 + 100 * seed + i) for i in range(n)])),
        }

    def trained_anew(self, seed: int, n: int) -> Tensor:
        """Networks (n, p) trained as those of the zoo are, with other seeds."""
        start = self.zoo.start(self.arch) if self.shared else None
        state = None if start is None else self.spec.to_state(start)
        seeds = [10_000 + 100 * seed + i for i in range(n)]
        trained = [train_network(self.spec, load_data(DATA), self.recipe, start=state, seed=one)[0] for one in seeds]
        return torch.stack([self.spec.to_flat(one) for one in trained])


def written(spec: ArchSpec, weights: Tensor, folder: Path) -> Path:
    """Write networks (n, p) as plain state dicts into a new folder."""
    for i, flat in enumerate(weights):
        write_tensors(folder / f"{i:03d}.safetensors", spec.to_state(flat))
    return folder
