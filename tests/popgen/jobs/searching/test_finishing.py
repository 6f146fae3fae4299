"""Objectives of candidates, and training of the result: `popgen search` with these options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from popgen.archs import ArchConfig, ArchSpec, build
from popgen.configs.spec import Recipe
from popgen.data import Part, load_data
from popgen.networks.train import fit

MLP = ("search", "--arch", "mlp-s", "--data", "digits/rotate:45", "--workers", 0, "--json")


def accuracy(file: Path | str, part: Part, config: ArchConfig | str = "mlp-s") -> float:
    """Of a file of weights in a plain module."""
    net = build(config).eval()
    net.load_state_dict(load_file(file), strict=True)
    with torch.no_grad():
        return float((net(part.inputs).argmax(1) == part.targets).float().mean())


def rows_of(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in result["rows"]}


def save_npz(file: Path, classes: list[str], keep: range = range(10)) -> str:
    """digits/rotate:45 in its splits, with groups; of the classes `keep` only."""
    data, arrays = load_data("digits/rotate:45"), {}
    for split in ("train", "val", "test"):
        part: Part = getattr(data, split)
        rows = torch.isin(part.targets, torch.tensor(list(keep)))
        arrays |= {f"x_{split}": part.inputs[rows].numpy(), f"y_{split}": part.targets[rows].numpy() - keep[0]}
        arrays[f"groups_{split}"] = np.where(arrays[f"y_{split}"] % 2, "odd", "even")
    np.savez(file, **arrays, classes=np.array(classes))
    return f"npz:{file}"


def test_steps_of_sgd_cost_budget_and_are_in_the_result(popgen: Any, here: Path) -> None:
    steps = ("--sgd-steps", 4, "--sgd-batch", 100, "--evaluations", 40, "--baselines", "all")
    called = popgen(*MLP, *steps, "--out", "run")
    (result,) = called.results
    cost = 1 + 3 * 4 * 100 / 300
    assert result["details"]["cost"] == cost == 5.0
    lines = [json.loads(line) for line in (here / "run" / "history.jsonl").read_text().splitlines()[1:]]
    assert len(lines) == 8 and {line["cost"] for line in lines} == {5.0}
    rows = rows_of(result)
    assert {name: rows[name]["evaluations"] for name in ("random", "best_zoo", "noise", "empty", "search")} == {
        "random": 5, "best_zoo": 52 * 5, "noise": 40, "empty": 25, "search": 40
    }  # fmt: skip
    assert rows["generated_best"]["evaluations"] == 7 * 5  # the mean is one of the eight
    data = load_data("digits/rotate:45")
    assert accuracy(result["weights"], data.val) == pytest.approx(rows["search"]["val_accuracy"])
    assert accuracy(result["weights"], data.test) == pytest.approx(rows["search"]["test_accuracy"])
    assert "4 steps of SGD: an evaluation costs 5.00" in called.err
    with safe_open(result["weights"], framework="pt") as file:
        card = file.metadata()
    assert json.loads(card["sgd"])["steps"] == 4 and json.loads(card["classes"]) == list("0123456789")
    again = popgen("search", "--resume", "run", "--evaluations", 50, "--baselines", "none", "--json")
    assert rows_of(again.results[0])["search"]["evaluations"] == 50
    refused = popgen("search", "--resume", "run", "--sgd-steps", 5, code=7)
    assert "sgd.steps was 4, is 5" in refused.err


def test_a_refitted_head_is_in_the_file_with_its_classes(popgen: Any, here: Path) -> None:
    names = ["three", "four", "five", "six"]
    name = save_npz(here / "four.npz", names, range(3, 7))
    command = ("search", "--arch", "mlp-s", "--data", name, "--workers", 0, "--json", "--evaluations", 6)
    (result,) = popgen(*command, "--baselines", "none", "--out", "run").results
    with safe_open(result["weights"], framework="pt") as file:
        card = file.metadata()
    assert (card["head"], card["batch_norm"], json.loads(card["classes"])) == ("refit", "none", names)
    config = ArchConfig.from_json(json.loads(card["arch_config"]))
    assert config.classes == 4
    found = rows_of(result)["search"]["test_accuracy"]
    assert accuracy(result["weights"], load_data(name).test, config) == pytest.approx(found) and found > 0.9


@pytest.mark.usefixtures("tmp_path")
def test_objectives_of_groups_and_of_the_users_own(popgen: Any, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "own_objective.py").write_text(
        "def sevens(logits, labels):\n    return (logits.argmax(1) != labels)[labels == 7].float().mean()\n"
    )
    monkeypatch.syspath_prepend(str(here))
    name = save_npz(here / "grouped.npz", list("0123456789"))
    names = "worst_group_error,balanced_error,own_objective:sevens"
    command = ("search", "--arch", "mlp-s", "--data", name, "--workers", 0, "--json", "--evaluations", 6)
    (result,) = popgen(
        *command, "--baselines", "none", "--objective", names, "--weights", "1,1,1", "--out", "a"
    ).results
    assert result["details"]["groups"] == {"even": 149, "odd": 151}
    val, net = load_data(name).val, build("mlp-s").eval()
    net.load_state_dict(load_file(result["weights"]))
    wrong = (net(val.inputs).argmax(1) != val.targets).double()
    errors = [float(wrong[val.targets == label].mean()) for label in range(10)]
    groups = max(float(wrong[val.targets % 2 == odd].mean()) for odd in (0, 1))
    lines = [json.loads(line) for line in (here / "a" / "history.jsonl").read_text().splitlines()[1:]]
    best = min(lines, key=lambda line: line["loss"])
    assert best["loss"] == pytest.approx(groups + float(np.mean(errors)) + errors[7], abs=1e-6)
    table = here / "groups.csv"
    table.write_text("index,group\n" + "".join(f"{i},{i % 4}\n" for i in range(300)))
    options = ("--objectives", "worst_group_error", "--groups", table, "--baselines", "none", "--out", "b")
    assert popgen(*command, *options).results[0]["details"]["groups"] == {str(i): 75 for i in range(4)}
    table.write_text("index,group\n" + "".join(f"{i},{i % 2}\n" for i in range(300)))
    assert "groups was" in popgen("search", "--resume", "b", code=7).err
    table.write_text("index,group\n" + "".join(f"{i},{(i + 1) % 4}\n" for i in range(300)))
    assert "groups_sha256 was" in popgen("search", "--resume", "b", code=7).err, "as many images in each group"


@pytest.mark.parametrize(
    ("options", "code", "lines"),
    [
        (("--sgd-steps", 20, "--evaluations", 10), 4, ["--evaluations 10 is less than one", "20 steps of SGD make it 11.00"]),
        (("--sgd-steps", 2, "--rungs", "0.5"), 4, ["does not pay with steps of SGD", "use --sgd-steps 0"]),
        (("--sgd-steps", -1), 4, ["sgd.steps", "greater than or equal to 0"]),
        (("--groups", "x.csv"), 4, ["--groups x.csv is given, and no objective uses groups", "worst_group_error"]),
        (("--objective", "worst_group_error"), 4, ["the groups of 'digits/rotate:45' are not known", "--groups FILE"]),
        (("--objective", "worst_group_error", "--groups", "no.csv"), 3, ["there is no file 'no.csv' with groups"]),
        (("--objective", "worst_group_error", "--split", "train"), 4, ["is that of the validation split"]),
        (("--objective", "f1_eror"), 3, ["no objective called 'f1_eror'", "f1_error"]),
        (("--objective", "json:dumps"), 4, ["the objective 'json:dumps' failed", "TypeError"]),
        (("--objective", "own_bad:endless"), 4, ["is inf for 300 images", "only compare finite numbers"]),
        (("--finetune-epochs", "1,x"), 4, ["finetune.epochs", "'x'"]),
        (("--finetune-epochs", "-1"), 4, ["finetune.epochs"]),
    ],
)  # fmt: skip
def test_what_is_refused(
    popgen: Any, here: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[Any, ...], code: int, lines: list[str]
) -> None:
    (here / "own_bad.py").write_text("def endless(logits, labels):\n    return float('inf')\n")
    monkeypatch.syspath_prepend(str(here))
    called = popgen(*MLP, *options, "--out", "run", code=code)
    assert all(line in called.err for line in lines), called.err
    assert not (here / "run").exists()


@pytest.mark.usefixtures("here")
def test_steps_do_not_go_with_parts(popgen: Any) -> None:
    popgen("retrieve", "--arch", "mlp-s", "--data", "digits/rotate:30", "--out", "base.safetensors")
    parts = ("--parts", "head", "--base", "base.safetensors", "--sgd-steps", 2)
    assert "--sgd-steps 2 trains all tensors, --parts keeps" in popgen(*MLP, *parts, code=4).err


@pytest.mark.usefixtures("monkeypatch")
def test_every_row_is_fine_tuned_from_where_it_is(popgen: Any, here: Path) -> None:
    command = (*MLP, "--evaluations", 30, "--out", "run", "--finetune-epochs", "0,2,1")
    called = popgen(*command)
    (result,) = called.results
    rows, data = rows_of(result), load_data("digits/rotate:45")
    tuned = {name: row["finetuned"] for name, row in rows.items() if row["finetuned"]}
    assert list(tuned) == ["random", "best_zoo", "average", "ridge", "generated_best", "search"]
    assert all([one["epochs"] for one in figures] == [1, 2] for figures in tuned.values())
    networks = len({rows[name]["val_loss"] for name in tuned})  # the search's may be the best of the population
    said = f"fine-tuning, {2 * networks} trainings of together {3 * networks} epochs of 1000 images, about "
    assert networks >= 5 and said in called.err
    file = here / "run" / "finetuned-mlp-s-e2.safetensors"
    assert result["details"]["finetune"]["weights"] == str(file.relative_to(here))
    assert not (here / "run" / "finetuned-mlp-s-e1.safetensors").exists()
    assert accuracy(file, data.val) == pytest.approx(tuned["search"][1]["val_accuracy"])
    assert accuracy(file, data.test) == pytest.approx(tuned["search"][1]["test_accuracy"])
    # By hand: from the same file, by the recipe that is said.
    recipe = result["details"]["finetune"]["recipe"]
    clip = recipe.pop("clip")
    net = build("mlp-s")
    net.load_state_dict(load_file(result["weights"]))
    spec, order = ArchSpec.from_config("mlp-s"), torch.Generator().manual_seed(0)
    fit(net, spec.config, data.train, Recipe(**recipe, epochs=2), order, clip)
    assert torch.allclose(spec.to_flat(net.state_dict()), spec.to_flat(load_file(file)), atol=1e-6)
    assert tuned["random"][1]["val_accuracy"] > rows["random"]["val_accuracy"]

    shown = popgen("search", "--resume", "run").out
    last = next(line for line in reversed(shown.splitlines()) if "search" in line and "/" in line)
    figures = [rows["search"], *tuned["search"]]
    assert all(f"{one['val_accuracy']:.3f} / {one['test_accuracy']:.3f}" in last for one in figures)
    assert "after epochs of fine-tuning" in shown and "weights after 2 epochs: run/finetuned-mlp-s-e2" in shown


@pytest.mark.slow
def test_what_is_fine_tuned_is_not_trained_again(popgen: Any, here: Path) -> None:
    command = (*MLP, "--evaluations", 4, "--out", "run", "--finetune-epochs", "1,2")
    first = popgen(*command).results[0]["rows"]
    kept, file = here / "run" / "finetuned-mlp-s.json", here / "run" / "finetuned-mlp-s-e2.safetensors"
    content = json.loads(kept.read_text())
    weights = load_file(file)
    again = popgen("search", "--resume", "run", "--json")
    assert again.results[0]["rows"] == first and "fine-tuning" not in again.err
    # Stopped after some rows: only the others are trained.
    kept.write_text(json.dumps(dict(list(content.items())[:7])))
    again = popgen("search", "--resume", "run", "--json")
    assert again.results[0]["rows"] == first
    assert f"{len(content) - 7} trainings" in again.err and "random after" not in again.err
    assert json.loads(kept.read_text()) == content
    # Weights that are gone, or another's, are made again.
    file.unlink()
    assert "1 trainings" in popgen("search", "--resume", "run", "--json").err
    assert all(torch.equal(weights[name], tensor) for name, tensor in load_file(file).items())
    # More epochs, and another winner: what stays is not repeated.
    more = popgen("search", "--resume", "run", "--finetune-epochs", "1,2,3", "--json")
    assert "5 trainings of together 15 epochs" in more.err  # one for each network: the search has not gone on
    assert [one["epochs"] for one in rows_of(more.results[0])["search"]["finetuned"]] == [1, 2, 3]
    kept.write_text("[1, 2")
    refused = popgen("search", "--resume", "run", code=5)
    assert "finetuned-mlp-s.json cannot be read" in refused.err and "Delete it" in refused.err
