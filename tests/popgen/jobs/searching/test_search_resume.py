"""A search that was killed, stopped, or given more evaluations ends as an undisturbed one; workers change nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

History = Callable[[Path], list[dict[str, Any]]]
COMMAND = ("search", "--data", "digits/rotate:225", "--workers", "0", "--baselines", "none", "--json")
LONG = (*COMMAND, "--arch", "resnet-s,mlp-s", "--evaluations", "150")


@pytest.fixture(scope="module")
def undisturbed(popgen: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("resume") / "undisturbed"
    return folder, popgen(*LONG, "--out", folder).results


def lines_in(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def start_and_signal(folder: Path, sent: signal.Signals, at_line: int) -> tuple[int, str]:
    """Run LONG in a process of its own, signal it at that line of the history; its exit code and stderr."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "popgen", *LONG, "--out", str(folder)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as it:
        give_up = time.monotonic() + 60
        while lines_in(folder / "history.jsonl") < at_line and it.poll() is None and time.monotonic() < give_up:
            time.sleep(0.002)
        it.send_signal(sent)
        _, text = it.communicate(timeout=30)
    return it.returncode, text


@pytest.mark.parametrize(
    ("sent", "at_line"),
    [pytest.param(signal.SIGKILL, 80, id="kill", marks=pytest.mark.slow), pytest.param(signal.SIGINT, 40, id="int")],
)
@pytest.mark.slow
def test_an_interrupted_run_ends_as_an_undisturbed_one(
    popgen: Any,
    tmp_path: Path,
    undisturbed: tuple[Path, list[dict[str, Any]]],
    timeless: History,
    sent: signal.Signals,
    at_line: int,
) -> None:
    whole, results = undisturbed
    folder = tmp_path / "run"
    code, text = start_and_signal(folder, sent, at_line)
    cut = lines_in(folder / "history.jsonl")
    assert at_line <= cut < len(timeless(whole)), "the signal came after the end"
    assert not (folder / "result.json").exists()
    if sent == signal.SIGINT:
        assert code == 130
        assert (
            f"popgen search --resume {folder}" in text and f"run folder: {folder}" in text and "Traceback" not in text
        )
    resumed = popgen("search", "--resume", folder, "--json").results
    assert timeless(folder) == timeless(whole)
    for now, before in zip(resumed, results, strict=True):
        assert now["rows"] == before["rows"]
        assert now["details"]["best_index"] == before["details"]["best_index"]
        ours, theirs = load_file(now["weights"]), load_file(before["weights"])
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_torn_last_line_is_evaluated_again(
    popgen: Any, tmp_path: Path, undisturbed: tuple[Path, list[dict[str, Any]]], timeless: History
) -> None:
    whole, _ = undisturbed
    popgen(*LONG, "--out", tmp_path / "run")
    history = tmp_path / "run" / "history.jsonl"
    content = history.read_bytes().splitlines(keepends=True)
    history.write_bytes(b"".join(content[:100]) + content[100][:40])
    popgen("search", "--resume", tmp_path / "run", "--json")
    assert timeless(tmp_path / "run") == timeless(whole)


def test_more_evaluations_are_one_go(popgen: Any, tmp_path: Path, timeless: History) -> None:
    mlp = (*COMMAND, "--arch", "mlp-s")
    one_go = popgen(*mlp, "--evaluations", 101, "--out", tmp_path / "one").results[0]
    popgen(*mlp, "--evaluations", 10, "--out", tmp_path / "parts")
    for evaluations in (31, 62, 101):
        parts = popgen("search", "--resume", tmp_path / "parts", "--evaluations", evaluations, "--json").results[0]
    assert timeless(tmp_path / "parts") == timeless(tmp_path / "one")
    assert parts["rows"] == one_go["rows"]
    again = popgen("search", "--resume", tmp_path / "parts", "--json").results[0]
    assert again["rows"] == one_go["rows"], "a finished run that is resumed keeps its budget and its result"


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--seed", 3, "seed was 0, is 3"),
        ("--batch", 6, "batch was 12, is 6"),
        ("--optimizer", "PSO", "optimizer was CMA, is PSO"),
        ("--space", "std", "space was pca, is std"),
        ("--head", "refit", "head was auto, is refit"),
        ("--population", 8, "population was 16, is 8"),
        ("--data", "digits/rotate:45", "data was digits/rotate:225, is digits/rotate:45"),
        ("--arch", "cnn-s", "archs was ['mlp-s'], is ['cnn-s']"),
    ],
)
def test_a_frozen_setting_is_named_and_refused(
    popgen: Any, finished: Path, timeless: History, option: str, value: object, named: str
) -> None:
    before, config = timeless(finished), (finished / "config.yaml").read_text()
    called = popgen("search", "--resume", finished, option, value, code=7)
    assert named in called.err and "error: " in called.err
    assert (timeless(finished), (finished / "config.yaml").read_text()) == (before, config)


@pytest.fixture(scope="module")
def finished(popgen: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frozen") / "run"
    settings = (
        "--optimizer",
        "CMA",
        "--space",
        "pca",
        "--batch",
        12,
        "--population",
        16,
    )  # not whatever is the default
    popgen(*COMMAND, "--arch", "mlp-s", "--evaluations", 30, *settings, "--out", folder)
    return folder


def test_another_generator_is_refused(popgen: Any, tmp_path: Path, own_generator: Path) -> None:
    command = (*COMMAND, "--arch", "mlp-s", "--evaluations", 30, "--generator", own_generator)
    popgen(*command, "--out", tmp_path / "run")
    model = own_generator / "model.safetensors"
    content = bytearray(model.read_bytes())
    content[-2] ^= 1  # a bit of one weight
    model.write_bytes(content)
    called = popgen("search", "--resume", tmp_path / "run", "--evaluations", 40, code=7)
    assert "generator_sha256 was" in called.err


@pytest.mark.usefixtures("tmp_path")
def test_changed_images_are_refused(popgen: Any, finished: Path) -> None:
    config = finished / "config.yaml"
    text = config.read_text()
    now = next(line for line in text.splitlines() if "data_sha256" in line)
    config.write_text(text.replace(now, "  data_sha256: " + 64 * "a"))
    try:
        assert "data_sha256 was aaa" in popgen("search", "--resume", finished, code=7).err
    finally:
        config.write_text(text)


def test_a_folder_that_holds_a_run_or_files_is_refused(popgen: Any, here: Path, finished: Path) -> None:
    (here / "full").mkdir()
    (here / "full" / "notes.txt").write_text("mine")
    command = (*COMMAND, "--arch", "mlp-s", "--evaluations", 30)
    before = (finished / "history.jsonl").read_bytes()
    assert "--resume" in popgen(*command, "--out", finished, code=4).err
    assert "not an empty folder" in popgen(*command, "--out", "full", code=4).err
    assert (finished / "history.jsonl").read_bytes() == before
    assert [path.name for path in here.rglob("*")] == ["full", "notes.txt"]


def test_two_processes_cannot_write_one_run(popgen: Any, finished: Path) -> None:
    from search import History as OpenHistory

    with OpenHistory(finished / "history.jsonl", "mlp-s"):
        called = popgen("search", "--resume", finished, "--evaluations", 50, code=7)
    assert "is being written by another search" in called.err


@pytest.mark.slow
def test_any_number_of_workers_gives_one_history(popgen: Any, tmp_path: Path, timeless: History) -> None:
    results = {}
    for workers in (0, 1, 2):
        command = ("search", "--arch", "cnn-s", "--data", "digits/rotate:315", "--baselines", "none", "--json")
        options = ("--workers", workers, "--evaluations", 44, "--out", tmp_path / str(workers))
        results[workers] = [found["rows"] for found in popgen(*command, *options).results]
    histories = {workers: timeless(tmp_path / str(workers)) for workers in results}
    assert len(histories[0]) == 1 + 44
    assert histories[0] == histories[1] == histories[2]
    assert results[0] == results[1] == results[2]


def test_a_run_of_an_earlier_version_goes_on(popgen: Any, here: Path) -> None:
    """Its config.yaml spells the fields of today's sections flat: sgd_steps, sample_steps, finetune_epochs, group."""
    earlier = Path(__file__).parents[3] / "reference" / "earlier_run"
    shutil.copytree(earlier, here / "run")
    before = (here / "run" / "history.jsonl").read_text()
    then = json.loads((earlier / "result.json").read_text())["results"][0]
    [now] = popgen("search", "--resume", "run", "--evaluations", 36, "--json").results
    after = (here / "run" / "history.jsonl").read_text()
    assert after.startswith(before) and len(after) > len(before)
    assert now["details"]["sgd"] == then["details"]["sgd"]
    assert now["details"]["finetune"]["epochs"] == [1]
    settings = yaml.safe_load((here / "run" / "config.yaml").read_text())["search"]
    assert settings["sampling"]["steps"] == 3 and settings["sampling"]["guidance"] == 1.5
    workers = {"workers": 0, "address": None, "timeout": None, "gpus": 0.0, "at_once": 1}
    assert settings["compute"] == {**workers, "precision": "float32"}
    refused = popgen("search", "--resume", "run", "--sample-steps", 4, code=7)
    assert "sampling.steps was 3, is 4" in refused.err
