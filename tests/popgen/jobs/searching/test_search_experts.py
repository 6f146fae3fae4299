"""`popgen search` without a generator: around the experts of a zoo, and how one is found where the user names none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from popgen.archs import ArchSpec, build
from popgen.data import load_data
from popgen.zoo import Checkpoint, Zoo

ARCH = ("--arch", "mlp-s/hidden:12")  # in a zoo of the test's own
COMMON = ("--data", "digits/rotate:45", "--workers", 0)
SPEC = ArchSpec.from_config("mlp-s/hidden:12")


@pytest.fixture
def own_zoo(here: Path) -> Zoo:
    """./zoos/own: one network, others trained a little further from it, and an unrelated one; all on the digits as they are."""
    from popgen.configs.spec import Recipe
    from popgen.networks.train import train_network

    zoo, data = Zoo.create(here / "zoos" / "own", "own"), load_data("digits")
    recipe = Recipe(epochs=3)
    base, _ = train_network(SPEC, data, recipe, start=None, seed=0)
    rows = [("base", base, "base")]
    rows += [(f"next{i}", train_network(SPEC, data, recipe, start=base, seed=i)[0], "base") for i in (1, 2)]
    rows.append(("far", train_network(SPEC, data, recipe, start=None, seed=9)[0], "far"))
    zoo.add(
        (
            Checkpoint(
                id=i, arch=SPEC.name, arch_config=SPEC.config, data="digits", classes=data.classes, lineage=line
            ),
            state,
        )
        for i, state, line in rows
    )
    zoo.finalize()
    return zoo


def names(result: dict[str, Any]) -> list[str]:
    return [row["name"] for row in result["rows"]]


@pytest.mark.usefixtures("own_zoo")
def test_a_zoo_is_found_and_its_experts_are_searched(popgen: Any) -> None:
    # the built-in generator knows this design by a transplant, so that the zoo has to be named
    called = popgen("search", *ARCH, *COMMON, "--zoo", "zoos/own", "--evaluations", 80, "--out", "run", "--json")
    [result] = called.results
    merges = [
        f"merge_{name}" for name in ("uniform_soup", "greedy_soup", "regmean", "fisher")
    ]  # the others need a base
    assert names(result) == ["random", "best_zoo", "average", *merges, "search"]
    assert "its weights are searched around the experts of zoos/own" in called.err
    assert "rows that need a generator are left out" in called.err
    details, rows = result["details"], {row["name"]: row for row in result["rows"]}
    assert details["space"] == "mix" and "experts mix" in details["space_reason"]
    assert len(details["experts"]) >= 2 and set(details["barriers"]) | {details["experts"][0]} == {
        "base",
        "next1",
        "next2",
        "far",
    }
    made = details["merges"]
    merged = sum(one["cost"] + 1 for one in made.values())
    assert rows["search"]["evaluations"] == 80 and details["evaluations_before"] == 4 + 3 + math.ceil(1 + merged - 1e-3)
    assert all(rows["search"]["val_loss"] <= rows[name]["val_loss"] + 1e-6 for name in ("best_zoo", *merges))
    assert {f"merge_{name}": one["loss"] for name, one in made.items()} == {
        name: pytest.approx(rows[name]["val_loss"], abs=1e-5) for name in merges if name.removeprefix("merge_") in made
    }
    assert all(rows[f"merge_{name}"]["evaluations"] == math.ceil(1 + one["cost"] - 1e-3) for name, one in made.items())
    net = build(SPEC.config).eval()
    net.load_state_dict(load_file(result["weights"]))
    data = load_data("digits/rotate:45")
    right = int((net(data.test.inputs).argmax(1) == data.test.targets).sum())
    assert right == pytest.approx(rows["search"]["test_accuracy"] * len(data.test), abs=1e-3)


@pytest.mark.usefixtures("own_zoo")
def test_low_rank_and_resume(popgen: Any, timeless: Any) -> None:
    command = ("search", *ARCH, *COMMON, "--zoo", "zoos/own", "--space", "low-rank", "--baselines", "none")
    popgen(*command, "--evaluations", 40, "--out", "whole")
    popgen(*command, "--evaluations", 25, "--out", "parts")
    popgen("search", "--resume", "parts", "--evaluations", 40)
    assert timeless(Path("whole"))[1:] == timeless(Path("parts"))[1:]
    choice = json.loads(Path("parts/experts-mlp-s-hidden-12.json").read_text())
    assert (choice["space"], choice["reason"], choice["spent"]) == ("low-rank", "it was asked for", 4)
    Path("parts/experts-mlp-s-hidden-12.json").write_text("{")
    assert "cannot be read" in popgen("search", "--resume", "parts", code=5).err


@pytest.mark.usefixtures("own_zoo")
def test_a_budget_that_ranking_spends(popgen: Any) -> None:
    command = ("search", *ARCH, *COMMON, "--zoo", "zoos/own", "--space", "low-rank", "--json", "--baselines", "none")
    steps = ("--sgd-steps", 2, "--sgd-batch", 50)  # 300 image passes more: an evaluation costs 2
    called = popgen(*command, *steps, "--evaluations", 5)
    assert "the budget of 5 evaluations is gone before the search, by 8: one more is made" in called.err
    [row] = called.results[0]["rows"]
    assert (row["name"], row["evaluations"]) == ("search", 8 + 2)


def test_a_changed_zoo_is_noticed(popgen: Any, own_zoo: Zoo) -> None:
    popgen(
        "search",
        *ARCH,
        *COMMON,
        "--space",
        "mix",
        "--zoo",
        "zoos/own",
        "--evaluations",
        12,
        "--baselines",
        "none",
        "--out",
        "run",
    )
    own_zoo.drop({"far"})
    own_zoo.finalize()
    assert "zoo_sha256 was" in popgen("search", "--resume", "run", code=7).err


@pytest.mark.usefixtures("here")
def test_experts_of_the_generators_own_zoo(popgen: Any) -> None:
    called = popgen("search", "--arch", "cnn-s", *COMMON, "--space", "mix", "--evaluations", 110, "--json")
    [result] = called.results
    rows = {row["name"]: row for row in result["rows"]}
    assert rows["search"]["test_accuracy"] > rows["best_zoo"]["test_accuracy"] + 0.03
    assert result["details"]["layer_groups"] == ["0", "3", "head"] and len(result["details"]["experts"]) == 8


@pytest.mark.usefixtures("second_generator")
def test_a_generator_under_generators_is_taken(popgen: Any) -> None:
    called = popgen("search", "--arch", "my-net", *COMMON, "--dry-run")
    assert "generator: generators/mine, which knows my-net" in called.err
    assert called.json["archs"]["my-net"]["head"] == "keep"


@pytest.mark.parametrize(
    ("options", "code", "pieces"),
    [
        (("--arch", "resnet20"), 3, ["no generator and no zoo here knows resnet20", "popgen zoo import", "popgen train"]),
        (("--arch", "cnn-s", "--space", "mix", "--describe", "digits"), 4, ["--describe needs a generator", "experts of the zoo"]),
        (("--arch", "cnn-s", "--space", "mix", "--zoo", "digits", "--prior", "kde"), 4, ["--prior needs a generator"]),
        (("--arch", "resnet20", "--zoo", "digits"), 3, ["zoo", "digits: it has cnn-m"]),
        (("--arch", "resnet20", "--space", "mix", "--zoo", "digits"), 3, ["'resnet20'", "the ones in the zoo digits"]),
        (("--arch", "cnn-s", "--space", "mixx"), 3, ["unknown space 'mixx'", "low-rank", "did you mean: mix"]),
    ],
)  # fmt: skip
def test_refused(popgen: Any, here: Path, options: tuple[str, ...], code: int, pieces: list[str]) -> None:
    called = popgen("search", *options, "--data", "digits/rotate:45", code=code)
    assert all(piece in called.err for piece in pieces), called.err
    assert list(here.iterdir()) == []


@pytest.mark.usefixtures("own_zoo")
def test_one_expert_cannot_be_mixed(popgen: Any) -> None:
    command = ("search", *ARCH, *COMMON, "--zoo", "zoos/own", "--space", "mix", "--experts", 1)
    assert "one expert of 'mlp-s/hidden:12' to mix" in popgen(*command, code=4).err


@pytest.mark.usefixtures("own_zoo")
def test_two_experts_have_one_principal_component(popgen: Any) -> None:
    command = ("search", *ARCH, *COMMON, "--zoo", "zoos/own", "--space", "principal", "--experts", 2)
    called = popgen(*command, "--baselines", "none", "--evaluations", 30, "--out", "run", "--json")
    assert "the space has one coordinate, which CMA cannot search: TBPSA did" in called.err
    [result], [row] = called.results, called.results[0]["rows"]
    assert result["details"]["space_dim"] == 1 and row["evaluations"] == 30


def test_held_out_networks_are_no_experts(popgen: Any, here: Path) -> None:
    zoo = Zoo.create(here / "own", "own")
    record = Checkpoint(id="a", arch=SPEC.name, arch_config=SPEC.config, data="digits", lineage="a", held_out=True)
    zoo.add([(record, torch.zeros(SPEC.size))])
    called = popgen("search", *ARCH, *COMMON, "--zoo", "own", code=4)
    assert "holds out all networks of 'mlp-s/hidden:12'" in called.err


def test_losses_that_are_not_finite_are_null_in_json(popgen: Any, here: Path, own_zoo: Zoo) -> None:
    def refuse(name: str) -> object:
        raise ValueError(f"{name} is not JSON")

    [record] = [one for one in own_zoo.select() if one.id == "far"]
    wild = own_zoo.spec(SPEC.name).to_state(own_zoo.matrix([record])[0] * 1e30)  # its outputs overflow
    own_zoo.add([(record.model_copy(update={"id": "wild", "lineage": "wild", "sha256": ""}), wild)])
    own_zoo.finalize()
    options = ("--workers", 0, "--data", "digits", "--evaluations", 24, "--baselines", "standard")
    called = popgen("search", "--arch", SPEC.name, "--zoo", "zoos/own", *options, "--out", "run", "--json")
    decision = next((here / "run").glob("experts-*.json"))
    for text in (called.out, (here / "run" / "result.json").read_text(), decision.read_text()):
        json.loads(text, parse_constant=refuse)
    assert json.loads(decision.read_text())["losses"]["wild"] is None
    popgen("search", "--resume", "run", "--evaluations", 26)
