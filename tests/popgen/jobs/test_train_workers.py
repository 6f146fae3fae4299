"""Training on several workers: Ray Train starts them, and they make what one process makes of the same parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from popgen.generator import Generator

SPEC = {
    "zoo": {
        "name": "tiny",
        "archs": ["mlp-s", "cnn-s"],
        "data": ["digits", "digits/rotate:90"],
        "seeds": [0, 1],
        "recipe": {"epochs": 1},
        "workers": 0,
    },
    "generator": {
        "accumulate": 2,
        "threads": 1,
        "vae": {"latent_tokens": 2, "latent_width": 4, "width": 32, "steps": 60, "gate": 1, "behaviour_networks": 2},
        "encoders": {"width": 32, "out": 16, "steps": 10},
        "prior": {"width": 32, "layers": 1, "steps": 10, "batch": 16, "sampling": {"steps": 2}},
        "tune": {"steps": 10, "networks": 2},
        "describe": {"steps": 5},
        "restore": {"steps": 5, "networks": 2},
    },
}


RANKED = """
import os
from popgen.data import load_data

def load():
    if os.environ.get("RANK") == "1":
        raise ValueError("not on this worker")
    return load_data("digits")
"""


@pytest.fixture(scope="module")
def folder(popgen: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workers")
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC))
    popgen("zoo", "build", "spec.yaml", "--out", "zoo", "--workers", 0, cwd=folder)
    popgen("train", "spec.yaml", "--zoo", "zoo", "--out", "one", cwd=folder)
    return folder


@pytest.mark.slow  # Ray Train starts its workers twice
@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_make_what_one_makes(popgen: Any, folder: Path) -> None:
    called = popgen("train", "spec.yaml", "--zoo", "zoo", "--out", "two", "--train-workers", 2, "--json", cwd=folder)
    assert (called.json["workers"], called.json["device"]) == (2, "cpu")
    one, two = folder / "one", folder / "two"
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()
    assert {path.name for path in two.iterdir()} == {
        "model.safetensors",
        "README.md",
        "config.json",
        "codes.json",
        "texts.json",
        "log",
    }
    assert Generator.from_pretrained(two).provenance.metrics["losses"] == called.json["losses"]
    assert "vae: 50 of 60" in called.err or "vae: 60 of 60" in called.err
    lines = [json.loads(line) for line in (two / "log" / "metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines][:2] == [("vae", 50), ("vae", 60)]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_what_one_worker_refuses_the_command_refuses(popgen: Any, folder: Path) -> None:
    command = ("train", "spec.yaml", "--zoo", "zoo", "--out", "three", "--train-workers", 2)
    called = popgen(*command, "--set", "generator.vae.gate=1e-9", "--set", "generator.vae.steps=1", cwd=folder, code=7)
    assert "the VAE loses" in called.err and "generator.vae.gate" in called.err
    assert not (folder / "three" / "config.json").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_what_any_worker_refuses_ends_the_others(popgen: Any, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second worker refuses its data; the first would wait for its gradients."""
    (here / "own_ranked.py").write_text(RANKED)
    monkeypatch.syspath_prepend(str(here))
    zoo = {**SPEC["zoo"], "data": ["own_ranked:load"], "archs": ["mlp-s"]}
    (here / "spec.yaml").write_text(yaml.safe_dump({**SPEC, "zoo": zoo}))
    popgen("zoo", "build", "spec.yaml", "--out", "zoo", "--workers", 0)
    called = popgen("train", "spec.yaml", "--zoo", "zoo", "--out", "made", "--train-workers", 2, code=None)
    assert called.code in (3, 4), called.err
    assert "not on this worker" in called.err and not (here / "made" / "config.json").exists()


@pytest.mark.slow
def test_workers_that_cannot_share_a_step_are_refused_before_ray(popgen: Any, folder: Path) -> None:
    called = popgen("train", "spec.yaml", "--zoo", "zoo", "--out", "four", "--train-workers", 3, cwd=folder, code=4)
    assert "3 workers cannot share a step of 2 micro-batches" in called.err and "generator.accumulate" in called.err
    assert not (folder / "four").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_more_workers_than_cpus_are_refused(popgen: Any, folder: Path) -> None:
    command = ("train", "spec.yaml", "--zoo", "zoo", "--out", "five", "--set", "generator.accumulate=64")
    called = popgen(*command, "--train-workers", 64, cwd=folder, code=4)
    assert "64 workers on a Ray cluster of " in called.err and "each takes one" in called.err
    assert not (folder / "five" / "config.json").exists()
