"""`--objective mutual_information`: labels decide nothing, and the start is the result where there is no gain over it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from popgen.archs import ArchSpec
from popgen.baselines.rivals import random_weights
from popgen.data import DataSet, load_data
from popgen.fitness import make_fitness
from popgen.fitness.information import information_gain, is_gain
from popgen.jobs.searching.results.gain import gain_over_start
from popgen.networks.forward import network_outputs

FREE = ("--objective", "mutual_information", "--workers", 0, "--json")
SMALL = (
    "search",
    "--arch",
    "mlp-s",
    "--baselines",
    "none",
    "--evaluations",
    20,
    "--population",
    4,
    "--experts",
    2,
    *FREE,
)


def as_npz(file: str, data: DataSet, turn: int) -> str:
    """A data set whose validation labels are turned by so many examples.

    The encoder of the digits' generator looks at the labels of training images.
    """
    arrays: dict[str, Any] = {"classes": np.array(data.classes)}
    for split in ("train", "val", "test"):
        part = getattr(data, split)
        arrays[f"x_{split}"] = part.inputs.numpy()
        arrays[f"y_{split}"] = part.targets.roll(turn if split == "val" else 0).numpy()
    np.savez(file, **arrays)
    return f"npz:{file}"


def test_labels_decide_nothing(popgen: Any, here: Path, timeless: Callable[[Path], list[dict[str, Any]]]) -> None:
    data, found = load_data("digits/rotate:45"), {}
    for turn in (0, 1):
        (here / str(turn)).mkdir()
        name = as_npz(f"{turn}/images.npz", data, turn)
        out = f"run{turn}"
        found[turn] = popgen(*SMALL, "--data", name, "--rungs", "0.5", "--out", out).results[0]
    histories = [[line.get("loss") for line in timeless(here / f"run{turn}")] for turn in (0, 1)]
    assert histories[0] == histories[1]
    right, wrong = (load_file(found[turn]["weights"]) for turn in (0, 1))
    assert all(right[name].equal(wrong[name]) for name in right)
    rows = [found[turn]["rows"][-1] for turn in (0, 1)]
    assert rows[0]["test_accuracy"] == rows[1]["test_accuracy"] > 0.8
    assert rows[0]["val_accuracy"] > 0.8 and rows[1]["val_accuracy"] < 0.3, "the table shows accuracies by labels"


@pytest.mark.usefixtures("here")
def test_the_gain_over_the_start_is_said_with_its_error(popgen: Any) -> None:
    called = popgen(*SMALL, "--data", "digits/rotate:45", "--out", "run")
    [result] = called.results
    gain = result["details"]["information_gain"]
    assert gain["start"] == "mean" and gain["standard_error"] > 0
    assert gain["start_is_kept"] == (not is_gain(gain["gain"], gain["standard_error"]))
    assert f"gain in mutual information over the start (mean): {gain['gain']:.3f} ±" in called.err
    spec, data = ArchSpec.from_config("mlp-s"), load_data("digits/rotate:45")
    outputs = network_outputs(spec, spec.to_flat(load_file(result["weights"])), data.val.inputs)
    loss = information_gain(torch.zeros_like(outputs), outputs)[0]
    assert result["rows"][-1]["val_loss"] == pytest.approx(np.log(10) - loss, abs=1e-4)


@pytest.mark.usefixtures("here")
def test_without_a_gain_the_start_is_the_result(popgen: Any) -> None:
    [result] = popgen(*SMALL, "--data", "digits/rotate:45", "--evaluations", 1, "--out", "run").results
    details = result["details"]
    assert details["information_gain"]["start_is_kept"] and details["information_gain"]["gain"] == 0
    assert (details["best_index"], details["best_origin"]) == (None, "mean")


def test_a_start_that_cannot_be_scored_is_not_given_back() -> None:
    spec = ArchSpec.from_config("mlp-s")
    data = load_data("digits")
    fitness = replace(make_fitness(spec, data, data.classes), label_free=True)
    best, images = fitness.score(random_weights(spec, 0)), fitness.train[0]
    assert gain_over_start(fitness, torch.full((spec.size,), torch.nan), "mean", best, images) == (best, None)
    given, gain = gain_over_start(fitness, 8 * random_weights(spec, 0), "mean", best, images)
    assert gain is not None and gain.is_kept and gain.gain < 0 and given is not best


@pytest.mark.usefixtures("here")
def test_it_is_one_of_several_objectives(popgen: Any) -> None:
    common = (*SMALL, "--data", "digits/rotate:45", "--objectives", "mutual_information,calibration_error")
    front = popgen(*common, "--out", "front").results[0]["details"]["front"]
    assert front and set(front[0]["values"]) == {"mutual_information", "calibration_error"}
    details = popgen(*common, "--weights", "1,0.5", "--out", "sum").results[0]["details"]
    assert "front" not in details and "information_gain" not in details


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("options", [("--head", "refit"), ("--sgd-steps", 2)])
def test_what_fits_labels_is_refused(popgen: Any, options: tuple[Any, ...]) -> None:
    called = popgen(*SMALL, "--data", "digits/rotate:45", *options, "--out", "run", code=None)
    assert called.code != 0 and "mutual_information needs no labels" in called.err and not Path("run").exists()


@pytest.mark.usefixtures("here")
def test_experts_are_ranked_without_labels(popgen: Any) -> None:
    command = ("search", "--arch", "resnet-s", "--data", "digits/mirror", "--space", "low-rank", *FREE)
    called = popgen(*command, "--evaluations", 40, "--baselines", "none", "--out", "run")
    [result] = called.results
    decision = json.loads(Path("run/experts-resnet-s.json").read_text())
    assert all(0 <= loss <= np.log(10) + 1e-5 for loss in decision["losses"].values())
    assert result["details"]["information_gain"]["start"] == f"expert:{decision['experts'][0]}"


@pytest.mark.usefixtures("here")
def test_the_search_is_resumed(popgen: Any) -> None:
    whole = popgen(*SMALL, "--data", "digits/rotate:45", "--out", "whole").results[0]
    popgen(*SMALL, "--data", "digits/rotate:45", "--evaluations", 9, "--out", "part")
    [went_on] = popgen("search", "--resume", "part", "--evaluations", 20, "--json").results
    assert went_on["rows"] == whole["rows"]
    assert went_on["details"]["information_gain"] == whole["details"]["information_gain"]


def test_the_gain_is_that_on_images_that_chose_nothing() -> None:
    spec, data = ArchSpec.from_config("mlp-s"), load_data("digits")
    fitness = replace(make_fitness(spec, data, data.classes), label_free=True)
    start, best = random_weights(spec, 0), fitness.score(4 * random_weights(spec, 1))
    given, gain = gain_over_start(fitness, start, "mean", best, fitness.train[0])
    on_train, on_val = (
        information_gain(*(network_outputs(spec, flat, inputs) for flat in (start, best.flat)))
        for inputs in (fitness.train[0], fitness.val[0])
    )
    assert gain is not None and given is best
    assert (gain.gain, gain.error) == pytest.approx(on_train, rel=1e-4) and gain.gain != pytest.approx(
        on_val[0], rel=1e-3
    )
