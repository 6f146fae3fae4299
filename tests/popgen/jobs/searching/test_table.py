"""Rows and timings where some candidates cannot be scored."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from popgen.archs import ArchSpec, arch_config
from popgen.baselines.rivals import RIVALS, RivalInputs, rival, rival_row
from popgen.configs.search import SearchConfig
from popgen.data import load_data
from popgen.fitness import Fitness, LatentObjective, make_fitness, scores_of
from popgen.generator import Generator
from popgen.generator.unseen import Target
from popgen.jobs.searching.checks import ArchSearch
from popgen.jobs.searching.folder import RunFolder
from popgen.jobs.searching.pools import evaluation_seconds
from popgen.jobs.searching.population import sample
from popgen.jobs.searching.table import generated_rows
from search import Budget, Population, SearchSettings, run_search


@dataclass(frozen=True)
class Fails:
    """A decoder that raises for the latents of some rows, as a network of the user's own may for some weights."""

    decoder: Any
    bad: np.ndarray

    def weights(self, vector: np.ndarray) -> torch.Tensor:
        if any(np.array_equal(vector, one) for one in self.bad):
            raise ValueError("no such network")
        found: torch.Tensor = self.decoder.weights(vector)
        return found


@pytest.fixture(scope="module")
def one() -> ArchSearch:
    data, generator = load_data("digits/rotate:45"), Generator.from_pretrained("digits")
    spec = generator.spec("mlp-s")
    return ArchSearch("mlp-s", data, make_fitness(spec, data, generator.provenance.classes), Target(spec, "mlp-s"))


def test_rows_of_the_population_are_those_of_the_members_that_were_scored(one: ArchSearch, tmp_path: Path) -> None:
    generator = Generator.from_pretrained("digits")
    config = SearchConfig(archs=["mlp-s"], data="digits/rotate:45")
    vectors = sample(generator, "mlp-s", one.data, config, 6).flatten(1).double().numpy()
    population = Population(vectors, ["generated"] * 5 + ["expert:x"])
    decoder = Fails(generator.decoder("mlp-s"), vectors[[0, 3]])
    folder = RunFolder(tmp_path)
    run_search(
        LatentObjective(decoder, one.fitness),  # type: ignore[arg-type]
        population,
        SearchSettings(budget=Budget(evaluations=8)),
        history_path=folder.history,
        key="mlp-s",
    )
    mean, best = generated_rows(folder, population, decoder, one)  # type: ignore[arg-type]
    scored = [one.fitness.score(decoder.weights(vectors[row])) for row in (1, 2, 4)]
    assert mean.val_score == pytest.approx(np.mean([network.score for network in scored]))
    assert best.val_score == min(scored, key=lambda network: network.loss).score
    assert mean.evaluations == best.evaluations == 5, "failed members were paid for, too"


def test_the_time_of_an_evaluation_needs_no_mean() -> None:
    population = Population(np.array([[0.0], [2.0], [4.0]]), ["a", "b", "c"])
    seen: list[float] = []

    def objective(vector: np.ndarray) -> float:
        seen.append(float(vector[0]))
        if vector[0] in (0.0, 2.0):
            raise RuntimeError("not this one")
        return 1.0

    assert evaluation_seconds(objective, population) > 0
    assert seen[-2:] == [4.0, 4.0] and seen[0] == 2.0

    def never(vector: np.ndarray) -> float:
        raise RuntimeError(f"never at {vector}")

    assert evaluation_seconds(never, population) == 0


class Picky(nn.Module):
    """A network that refuses some weights, as a user's own may."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not bool(self.head.bias.isfinite().all()):
            raise ValueError("the bias is not finite")
        logits: torch.Tensor = self.head(images.flatten(1))
        return logits


def picky() -> nn.Module:
    return Picky()


@pytest.fixture(scope="module")
def fitness(one: ArchSearch) -> Fitness:
    return make_fitness(ArchSpec.from_config(arch_config(f"{__name__}:picky")), one.data, one.data.classes)


def test_a_network_that_cannot_be_run_is_no_result(fitness: Fitness) -> None:
    good = torch.randn(fitness.spec.size, generator=torch.Generator().manual_seed(0)) / 10
    broken = torch.full((fitness.spec.size,), math.nan)
    assert len(scores_of(fitness, [broken, good])) == 1
    assert fitness.loss_of(broken) == math.inf and math.isfinite(fitness.loss_of(good))


def test_a_rival_whose_networks_cannot_be_scored_is_said(one: ArchSearch, fitness: Fitness) -> None:
    broken = torch.full((fitness.spec.size,), math.nan)
    given, said = RivalInputs(fitness.spec, one.data, fitness, seed=0), list[str]()
    rival("broken")(lambda _: [broken])
    try:
        assert rival_row("broken", given, say=said.append) is None
    finally:
        del RIVALS["broken"]
    assert said == [f"{__name__}:picky: 1 of the 1 networks of broken cannot be scored"]
