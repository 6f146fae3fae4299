"""The command that a report gives for a run is read by the command line as the run's own settings."""

from __future__ import annotations

import shlex
from typing import Any

import click
import pytest

from popgen.cli.search import search_command as command_line
from popgen.configs.command import search_command
from popgen.configs.search import SearchConfig, search_config

EVERYTHING: dict[str, Any] = {
    "archs": ["cnn-s", "mlp-s"],
    "data": "folder:my photos/it's",
    "data_dir": "/data",
    "generator": "generators/a b",
    "zoo": "zoos/a",
    "parts": ["head", "conv*"],
    "base": "base.safetensors",
    "head": "refit",
    "batch_norm": 0.25,
    "split": "train",
    "sgd": {"steps": 3, "lr": 0.02, "batch": 20},
    "evaluations": 70,
    "seconds": 9.5,
    "target": -0.5,
    "patience": 20,
    "optimizer": "DE",
    "space": "std",
    "sigma": 0.3,
    "batch": 7,
    "mode": "async",
    "rungs": [0.25, 0.5],
    "objectives": ["loss", "my.measures:worst"],
    "weights": [1.0, 0.5],
    "groups": "groups.csv",
    "population": 9,
    "experts": 3,
    "warm_start": "runs/a",
    "warm_best": 2,
    "prior_width": 0.0,
    "describe": 'digits, "turned"',
    "sampling": {"prior": "ridge", "sampler": "heun", "steps": 7, "guidance": 1.5, "strength": 0.5},
    "compute": {
        "workers": 2,
        "address": "10.0.0.1:6379",
        "timeout": 3.0,
        "gpus": 0.5,
        "at_once": 4,
        "precision": "auto",
    },
    "baselines": "all",
    "ensemble": 3,
    "merges": ["ties", "dare"],
    "finetune": {"mode": "never", "epochs": [1, 10], "lr": 0.01, "batch": 25},
    "seed": 3,
}


def read(command: str) -> SearchConfig:
    """The settings that `popgen search` makes of a command line."""
    words = shlex.split(command)
    assert words[:2] == ["popgen", "search"]
    assert isinstance(command_line, click.Command)
    given = command_line.make_context("search", words[2:]).params
    names = {"zoo_name": "zoo", "arch": "archs"}
    ours = {names.get(name, name): value for name, value in given.items() if value is not None}
    for other in ("out", "resume", "with_report", "dry_run", "as_json"):
        ours.pop(other, None)
    if ours.get("workers", "auto") != "auto":
        ours["workers"] = int(ours["workers"])
    return search_config(ours, None, "test")


def test_every_setting_comes_back() -> None:
    assert set(EVERYTHING) == set(SearchConfig.model_fields), "a new setting stands here, too"
    config = SearchConfig(**EVERYTHING)
    fresh = SearchConfig(archs=["a"], data="b")
    same = [name for name, value in EVERYTHING.items() if getattr(fresh, name) == getattr(config, name)]
    assert same == [], "each setting differs from its default"
    assert read(search_command(config)) == config


@pytest.mark.parametrize("name", sorted(set(EVERYTHING) - {"archs", "data"}))
def test_one_setting_comes_back(name: str) -> None:
    config = SearchConfig(archs=["cnn-s"], data="digits", **{name: EVERYTHING[name]})
    assert read(search_command(config)) == config


def test_defaults_are_left_out() -> None:
    config = SearchConfig(archs=["cnn-s"], data="digits/rotate:45")
    assert search_command(config) == "popgen search --arch cnn-s --data digits/rotate:45"
    assert search_command(config, "a b").endswith(" --out 'a b'")
