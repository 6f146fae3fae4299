"""`popgen audit` of generators of one training run, with and without independent references."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import written
from torch import Tensor

import popgen
from popgen.audit.controls import averages, noisy
from popgen.baselines.rivals import random_weights
from popgen.configs.spec import Recipe, ZooSpec
from popgen.data import load_data
from popgen.networks.train import train_network
from popgen.weights.align import permuted
from popgen.zoo import Zoo, build_zoo

pytestmark = pytest.mark.slow  # generators are trained

RECIPE = Recipe(epochs=10, lr=2e-3, schedule="constant", snapshots=20, snapshot_every=5)
QUICK: dict[str, Any] = {"controls": 6, "rounds": 200}
WORDS = {
    "replay": "copies",
    "weak noise": "copies",
    "strong noise": "copies",
    "permuted": "copies",
    "averages": "copies",
    "trained anew": "novel",
    "broken": "fails",
}


@pytest.fixture(scope="module")
def zoos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Zoo, Zoo]:
    """Snapshots of one run, and six other runs."""
    folder = tmp_path_factory.mktemp("one_run")
    common: dict[str, Any] = {"archs": ["mlp-s"], "data": ["digits"], "start": None, "workers": 0}
    run = ZooSpec(name="run", seeds=[0], recipe=RECIPE, **common)
    others = ZooSpec(name="others", seeds=[1, 2, 3, 4, 5, 6], recipe={**RECIPE.model_dump(), "snapshots": 1}, **common)
    return build_zoo(run, folder / "run", progress=False), build_zoo(others, folder / "others", progress=False)


def generated(zoo: Zoo, case: str, n: int = 5) -> Tensor:
    """Networks (n, p) of a generator whose word is known."""
    spec, weights = zoo.spec("mlp-s"), zoo.matrix(zoo.records)
    if case == "trained anew":
        runs = [train_network(spec, load_data("digits"), RECIPE, start=None, seed=100 + i)[0] for i in range(n)]
        return torch.stack([spec.to_flat(state) for state in runs])
    made = {
        "replay": weights[:n],
        "weak noise": noisy(spec, weights, 0.05, n, seed=77),
        "strong noise": noisy(spec, weights, 0.4, n, seed=77),
        "permuted": torch.stack([permuted(spec, flat, i) for i, flat in enumerate(weights[:n])]),
        "averages": averages(weights, 8, n, seed=77),
        "broken": torch.stack([random_weights(spec, 100 + i) for i in range(n)]),
    }
    return made[case]


@pytest.mark.parametrize("case", list(WORDS))
def test_independent_references_give_one_run_its_word(case: str, zoos: tuple[Zoo, Zoo], tmp_path: Path) -> None:
    zoo, others = zoos
    folder = str(written(zoo.spec("mlp-s"), generated(zoo, case), tmp_path / "made"))
    options = {"zoo": str(zoo.folder), "reference_zoo": str(others.folder), **QUICK}
    (made,) = popgen.run_audit(generated=folder, out=str(tmp_path / "out"), **options).audits
    assert made.verdict.word == WORDS[case], made.verdict
    assert made.lineages == 6 and made.references.name == "references"
    content = json.loads((tmp_path / "out" / "result.json").read_text())
    assert content["reference_zoo"] == {"name": "others", "sha256": others.sha256}


@pytest.mark.parametrize(
    ("case", "word"),
    [("replay", "copies"), ("weak noise", "copies"), ("trained anew", "unsure")],
)
def test_snapshots_as_references_convict_and_do_not_acquit(
    case: str, word: str, zoos: tuple[Zoo, Zoo], tmp_path: Path
) -> None:
    zoo, _ = zoos
    folder = str(written(zoo.spec("mlp-s"), generated(zoo, case), tmp_path / "made"))
    (made,) = popgen.run_audit(generated=folder, zoo=str(zoo.folder), out=str(tmp_path / "out"), **QUICK).audits
    assert made.verdict.word == word, made.verdict
    assert made.lineages == 1 and made.references.name == "training"


def test_the_command_takes_references_and_refuses_unknown_ones(
    zoos: tuple[Zoo, Zoo], tmp_path: Path, here: Path, popgen: Any
) -> None:
    zoo, others = zoos
    folder = written(zoo.spec("mlp-s"), generated(zoo, "replay", 3), tmp_path / "made")
    options = ("--generated", folder, "--zoo", zoo.folder, "--controls", 2)
    done = popgen("audit", *options, "--reference-zoo", others.folder)
    assert "references" in done.out and "mlp-s for digits: copies" in done.out
    refused = popgen("audit", *options, "--reference-zoo", "nowhere", "--out", here / "no", code=3)
    assert "there is no zoo 'nowhere'" in refused.err
    refused = popgen("audit", *options, "--reference-zoo", zoo.folder, "--out", here / "no", code=4)
    assert "20 of 20 references are training checkpoints" in refused.err
