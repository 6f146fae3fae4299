"""Networks side by side: their features and outputs by hand, the files of a search, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import popgen
from popgen.archs import ArchConfig, ArchSpec, arch_config, build
from popgen.archs.families.ensemble import ensemble_config, joined_state
from popgen.baselines.ensemble import side_by_side, strongest
from popgen.baselines.rivals import RivalInputs
from popgen.baselines.row import Row
from popgen.data import load_data
from popgen.errors import BadInput
from popgen.fitness import Scored, make_fitness
from popgen.fitness.heads import fit_ridge_head
from popgen.jobs.searching.folder import RunFolder
from popgen.jobs.searching.results.ensemble import Others, add_ensemble
from popgen.networks.forward import network_features, network_outputs
from popgen.zoo import Zoo

CLASSES = tuple("0123456789")


@pytest.mark.parametrize("arch", ["mlp-s", "cnn-s", "resnet-s"])
def test_the_outputs_are_the_means_of_the_members_outputs(arch: str) -> None:
    spec = ArchSpec.from_config(arch)
    states = [build(spec.config, seed=seed).state_dict() for seed in range(3)]
    whole = ArchSpec.from_config(ensemble_config(spec.config, spec.head, 3))
    images = spec.config.inputs.example(5)
    joined = network_outputs(whole, whole.to_flat(joined_state(states, spec.head)), images)
    alone = torch.stack([network_outputs(spec, spec.to_flat(state), images) for state in states])
    torch.testing.assert_close(joined, alone.mean(0), atol=1e-5, rtol=1e-5)


def test_a_configuration_comes_back_from_json() -> None:
    config = ensemble_config(arch_config("cnn-s"), "6", 2)
    again = ArchConfig.from_json(config.to_json())
    assert again == config
    one, other = (build(again, seed=0).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["networks.0.0.weight"], one["networks.1.0.weight"])  # members begin apart


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"count": 65}, "from 1 to 64"),
        ({"count": 0}, "from 1 to 64"),
        ({"head": "5"}, "not a linear layer"),
        ({"head": "nothing"}, "nothing"),
        ({"member": ensemble_config(arch_config("cnn-s"), "6", 2).to_json()}, "of the kind 'ensemble'"),
        ({"member": {"name": "x"}}, "builder"),
    ],
)
def test_what_is_not_built(options: dict[str, Any], why: str) -> None:
    config = ensemble_config(arch_config("cnn-s"), "6", 2)
    with pytest.raises(BadInput, match=why):
        build(ArchConfig.from_json({**config.to_json(), "options": {**config.options, **options}}))


def scored_zoo(head: str) -> tuple[RivalInputs, Scored]:
    zoo, data = Zoo.open("digits"), load_data("digits/rotate:45/labels:40" if head == "refit" else "digits/rotate:45")
    spec, records = zoo.spec("cnn-s"), zoo.select("cnn-s", held_out=False)[:6]
    fitness = make_fitness(spec, data, CLASSES, head=head)
    given = RivalInputs(spec, data, fitness, 0, 10, zoo, records)
    return given, fitness.score(given.weights[given.ranked[1]])


def test_the_best_stand_beside_a_network_and_none_stands_twice() -> None:
    given, second = scored_zoo("keep")
    members, ids = strongest(given, second, 3, {})
    assert ids == [given.records[given.ranked[place]].id for place in (0, 2)]  # the second is there already
    assert [member.loss for member in members[1:]] == sorted(member.loss for member in members[1:])
    assert len(strongest(given, second, 20, {})[0]) == 6


def test_the_best_of_other_searches_stand_with_the_zoos_networks_by_their_losses() -> None:
    given, second = scored_zoo("keep")
    [best, worst] = [given.fitness.score(given.weights[given.ranked[place]]) for place in (0, -1)]
    found = {"good": replace(best, loss=best.loss - 0.01), "bad": replace(worst, loss=worst.loss + 1)}
    # The zoo's best is "good" itself, and stands once.
    assert strongest(given, second, 3, found)[1] == ["good", given.records[given.ranked[2]].id]
    assert strongest(given, second, 20, found)[1][-1] == "bad"
    members, names = strongest(replace(given, zoo=None, records=()), second, 2, found)
    assert names == ["good"] and members[0] is second


def test_one_head_is_fitted_to_the_features_of_all() -> None:
    given, one = scored_zoo("refit")
    members, _ = strongest(given, one, 2, {})
    whole = side_by_side(members, given.fitness)
    train, labels = given.fitness.train
    features = torch.cat([network_features(member.spec, member.flat, train) for member in members], 1)
    head = fit_ridge_head(features, labels, 10)
    state = whole.state()
    torch.testing.assert_close(state["head.weight"], head.weight, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(whole.outputs, head.left_out, atol=1e-3, rtol=1e-3)


@pytest.mark.usefixtures("here")
def test_a_search_writes_an_ensemble_that_can_be_built() -> None:
    [found] = popgen.search(
        "cnn-s",
        "digits/rotate:45",
        generator="digits",
        evaluations=20,
        workers=0,
        ensemble=2,
        finetune_mode="never",
        out="run",
    )
    names = [row.name for row in found.rows]
    assert names[-2:] == ["ensemble", "search"]
    about = found.to_json()["details"]["ensemble"]
    assert about["members"][0] == "search" and about["members"][1].startswith("cnn-s/digits/rotate:")
    with safe_open(about["weights"], framework="pt") as opened:
        config = ArchConfig.from_json(json.loads(opened.metadata()["arch_config"]))
    spec, data = ArchSpec.from_config(config), load_data("digits/rotate:45")
    outputs = network_outputs(spec, spec.to_flat(load_file(about["weights"])), config.inputs.prepare(data.test.inputs))
    accuracy = float((outputs.argmax(1) == data.test.targets).float().mean())
    assert accuracy == pytest.approx(found.row("ensemble").test_score)


@pytest.mark.parametrize("labels", ["", "/labels:40"])
@pytest.mark.usefixtures("here")
def test_trained_networks_stand_side_by_side_too(labels: str) -> None:
    options: dict[str, Any] = {"evaluations": 12, "workers": 0, "ensemble": 3, "out": "run"}
    name = f"digits/rotate:45{labels}"
    [found] = popgen.search("cnn-s", name, generator="digits", finetune_mode="auto", **options)
    about, rows = found.to_json()["details"]["ensemble"], [row.name for row in found.rows]
    assert rows[rows.index("ensemble") + 1] == "finetuned_ensemble" and "finetuned_search" in rows
    assert about["finetuned"]["members"] == about["members"] and len(about["members"]) == 3
    assert all(file.is_file() for file in Path("run/tuning-cnn-s").iterdir())  # ids of checkpoints make no folders
    with safe_open(about["finetuned"]["weights"], framework="pt") as opened:
        spec = ArchSpec.from_config(ArchConfig.from_json(json.loads(opened.metadata()["arch_config"])))
    state, data = load_file(about["finetuned"]["weights"]), load_data(name)
    outputs = network_outputs(spec, spec.to_flat(state), spec.config.inputs.prepare(data.test.inputs))
    accuracy = float((outputs.argmax(1) == data.test.targets).float().mean())
    assert accuracy == pytest.approx(found.row("finetuned_ensemble").test_score, abs=0.003)
    for member, row in enumerate(("finetuned_search", "finetuned_zoo")):
        trained = found.row(row).scored
        assert trained is not None
        own = {n: t for n, t in trained.state().items() if not n.startswith(trained.spec.head)}
        assert all(torch.equal(t, state[f"networks.{member}.{n}"]) for n, t in own.items())


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"ensemble": 1}, "nothing beside"),
        ({"ensemble": 3, "archs": "cnn-s/channels:12-24"}, "no network of it in a zoo"),
        ({"ensemble": -1}, "greater than or equal to 0"),
    ],
)
@pytest.mark.usefixtures("here")
def test_what_is_refused(options: dict[str, Any], why: str) -> None:
    arch = options.pop("archs", "cnn-s")
    with pytest.raises(BadInput, match=why):
        popgen.search(arch, "digits/rotate:45", generator="digits", evaluations=10, workers=0, **options)


def test_there_is_no_ensemble_of_one(tmp_path: Path) -> None:
    given, _ = scored_zoo("keep")
    alone = replace(given, records=given.records[:1])
    search = Row.of("search", 5, alone.fitness.score(alone.weights[0]), alone.data)
    said: list[str] = []
    found = add_ensemble(alone, [search], 3, Others(), None, RunFolder(tmp_path), {"arch": "cnn-s"}, said.append)
    assert found == ([search], None) and list(tmp_path.iterdir()) == []
    assert said == ["cnn-s: no ensemble: there is no network but the search's best"]
