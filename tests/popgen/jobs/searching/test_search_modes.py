"""`popgen search` beyond one loss on the full set: races, fronts, warm starts, asynchronous workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from popgen.archs import ArchSpec
from popgen.data import load_data
from popgen.fitness.measures import MEASURES
from popgen.networks.forward import network_outputs, task_score
from search import Population

MLP = ("search", "--arch", "mlp-s", "--data", "digits/rotate:45", "--baselines", "none", "--json")
QUICK = ("--workers", 0, "--population", 4, "--experts", 2)


def history(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()[1:]]


def test_a_race(popgen: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "run"
    found = popgen(*MLP, *QUICK, "--rungs", "0.25,0.5", "--evaluations", 40, "--out", out).results[0]
    lines = history(out)
    assert found["details"]["looks"] == len(lines) > 50
    assert sum(line["cost"] for line in lines) <= 40
    assert found["rows"][-1]["evaluations"] == 40
    best = min((line for line in lines if line["share"] == 1), key=lambda line: line["loss"])
    assert found["details"]["best_index"] == best["index"]
    assert found["rows"][-1]["val_accuracy"] == pytest.approx(best["metrics"]["accuracy"], abs=1e-6)
    again = popgen("search", "--resume", out, "--evaluations", 45, "--json").results[0]
    assert history(out)[: len(lines)] == lines and again["details"]["looks"] > len(lines)
    refused = popgen(*MLP, *QUICK, "--rungs", "0.5", "--head", "refit", code=4)
    assert "does not pay with a refitted head" in refused.err and "--head keep" in refused.err


def test_a_front(popgen: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "run"
    called = popgen(
        *MLP, *QUICK, "--objectives", "error,calibration_error", "--evaluations", 60, "--out", out, cwd=tmp_path
    )
    found = called.results[0]
    front = found["details"]["front"]
    spec, data = ArchSpec.from_config("mlp-s"), load_data("digits/rotate:45")
    val = data.val
    assert len(front) >= 2 and found["details"]["best_index"] in [point["index"] for point in front]
    for point in front:
        flat = spec.to_flat(load_file(point["weights"]))
        logits = network_outputs(spec, flat, spec.config.inputs.prepare(val.inputs))
        for name, value in point["values"].items():
            assert MEASURES[name](logits, val.targets) == pytest.approx(value, abs=1e-5)
        assert point["val_accuracy"] == pytest.approx(task_score(spec, flat, data), abs=1e-6)
        rivals = [other["values"] for other in front if other is not point]
        assert not any(all(rival[name] <= point["values"][name] for name in rival) for rival in rivals)
    shown = popgen("search", "--resume", out).out
    assert "front of mlp-s" in shown and all(f"│ {point['index']} " in shown for point in front)
    files = sorted(path.name for path in (out / "front-mlp-s").iterdir())
    assert files == sorted(f"{point['index']:05d}.safetensors" for point in front)


def test_a_weighted_sum(popgen: Callable[..., Any], tmp_path: Path) -> None:
    options = ("--objectives", "loss,worst_class_error", "--weights", "1,2", "--evaluations", 20)
    found = popgen(*MLP, *QUICK, *options, "--out", tmp_path / "run").results[0]
    assert "front" not in found["details"]
    for line in history(tmp_path / "run"):
        assert line["loss"] > 2 * line["metrics"]["worst_class_error"] and line["values"] is None


def test_a_warm_start(popgen: Callable[..., Any], tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    popgen(*MLP, *QUICK, "--evaluations", 30, "--out", first)
    best = sorted(line["loss"] for line in history(first))[:3]
    options = ("--warm-start", first, "--warm-best", 3, "--optimizer", "DE", "--prior-width", 0, "--evaluations", 20)
    popgen(*MLP, *QUICK, *options, "--out", second)
    population = Population.load(second / "population-mlp-s.safetensors")
    assert [origin.partition(":")[0] for origin in population.origins] == ["generated"] * 4 + ["expert"] * 2 + [
        "best"
    ] * 3
    unpenalised = {line["index"]: line["metrics"]["unpenalised_loss"] for line in history(first)}
    seeds = [line for line in history(second) if line["origin"].startswith("best:")]
    assert len(seeds) == len(best)
    for line in seeds:
        assert line["loss"] == pytest.approx(unpenalised[int(line["origin"].removeprefix("best:"))], abs=1e-6)
    missing = popgen(*MLP, *QUICK, "--warm-start", tmp_path / "nowhere", code=3)
    assert "there is no run in" in missing.err
    other = popgen("search", "--arch", "cnn-s", *MLP[3:], *QUICK, "--warm-start", first, code=4)
    assert "has no search for 'cnn-s'" in other.err


@pytest.mark.slow
def test_asynchronous_workers(popgen: Callable[..., Any], tmp_path: Path) -> None:
    options = ("--mode", "async", "--workers", 2, "--timeout", 60, "--evaluations", 40)
    found = popgen(*MLP, *options, "--population", 4, "--out", tmp_path / "run").results[0]
    lines = history(tmp_path / "run")
    assert sorted(line["candidate"] for line in lines) == list(range(40))
    assert found["details"]["stopped_by"] == "evaluations"
    again = popgen("search", "--resume", tmp_path / "run", "--workers", 0, "--evaluations", 50, "--json", code=4)
    assert "--timeout needs workers" in again.err


@pytest.mark.parametrize(
    ("options", "code", "pieces"),
    [
        (("--rungs", "half"), 2, ["'half' is not a list of numbers such as 0.25,0.5"]),
        (("--rungs", "0.5,0.5"), 1, ["rungs are [0.5, 0.5]", "growing shares"]),
        (("--rungs", "0.5", "--mode", "async"), 1, ["rungs do not go with mode async"]),
        (("--objectives", "eror,loss"), 3, ["objective", "'eror'", "nearest known: error"]),
        (("--objectives", "loss,error", "--weights", "1"), 1, ["weights are [1.0] for the objectives"]),
        (("--objectives", "loss,error", "--target", "1"), 1, ["does not go with a Pareto search"]),
        (("--timeout", "5"), 4, ["--timeout needs workers"]),
        (("--gpus", "0.5"), 4, ["--gpus needs workers"]),
        (("--mode", "quick"), 2, ["'quick'", "async"]),
    ],
)
def test_refusals(popgen: Callable[..., Any], tmp_path: Path, options: tuple, code: int, pieces: list[str]) -> None:
    called = popgen(*MLP, *QUICK, *options, code=code, cwd=tmp_path)
    assert all(piece in called.err for piece in pieces), called.err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_ray")
def test_a_cluster_that_is_not_there_leaves_no_folder(popgen: Callable[..., Any], tmp_path: Path) -> None:
    called = popgen(*MLP, "--address", "127.0.0.1:1", code=1, cwd=tmp_path)
    assert "there is no Ray cluster at 127.0.0.1:1" in called.err and not list(tmp_path.iterdir())


@pytest.mark.slow  # a cluster is joined by a process of its own
def test_a_running_cluster_is_joined(popgen: Callable[..., Any], tmp_path: Path, ray_cluster: str) -> None:
    command = (*MLP, "--population", 4, "--evaluations", 16)
    popgen(*command, "--address", ray_cluster, "--out", tmp_path / "joined")
    popgen(*command, "--workers", 0, "--out", tmp_path / "alone")
    losses = [[(line["coordinates"], line["loss"]) for line in history(tmp_path / run)] for run in ("joined", "alone")]
    assert losses[0] == losses[1]
