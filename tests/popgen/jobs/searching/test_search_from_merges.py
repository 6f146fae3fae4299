"""A search of mixtures starts from the best merge of its experts by validation, and goes on from it exactly."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from popgen.archs import ArchSpec
from popgen.data import load_data
from popgen.zoo import Checkpoint, Zoo

SPEC = ArchSpec.from_config("mlp-s/hidden:12")
TASKS = ("rotate:0", "rotate:30", "rotate:60")
SEARCH = (
    "search",
    "--arch",
    SPEC.name,
    "--data",
    f"digits/union:{'+'.join(TASKS)}",
    "--zoo",
    "zoos/own",
    "--space",
    "mix",
)
SEARCH = (*SEARCH, "--workers", 0, "--finetune", "never")


@pytest.fixture
def own_zoo(here: Path) -> None:
    """./zoos/own: experts of three rotations that were trained from one network of the upright digits."""
    from popgen.configs.spec import Recipe
    from popgen.networks.train import train_network

    zoo, recipe = Zoo.create(here / "zoos" / "own", "own"), Recipe(epochs=3)
    base, _ = train_network(SPEC, load_data("digits"), recipe, start=None, seed=0)
    names = [f"digits/{task}" for task in TASKS]
    states = [train_network(SPEC, load_data(name), recipe, start=base, seed=1)[0] for name in names]
    own: dict[str, Any] = {"arch": SPEC.name, "arch_config": SPEC.config, "classes": load_data("digits").classes}
    zoo.add(
        (Checkpoint(id=name, data=name, lineage="base", **own), one) for name, one in zip(names, states, strict=True)
    )
    zoo.set_starts({SPEC.name: SPEC.to_flat(base)})
    zoo.finalize()


@pytest.mark.usefixtures("own_zoo")
def test_the_best_merge_is_the_first_candidate(popgen: Any, timeless: Any) -> None:
    called = popgen(*SEARCH, "--evaluations", 110, "--out", "whole", "--json")
    [result] = called.results
    rows, details = {row["name"]: row for row in result["rows"]}, result["details"]
    assert {"merge_uniform_soup", "merge_task_arithmetic", "merge_adamerging"} <= set(rows)
    assert "rows of merges that cost more are left out (ties, dare)" in called.err and "merge_ties" not in rows
    made = details["merges"]
    best = min(made, key=lambda name: made[name]["loss"])
    assert details["start"] == best and f"space mix around {best}" in called.err
    lines = [json.loads(line) for line in Path("whole/history.jsonl").read_text().splitlines()]
    first = next(line for line in lines if line.get("origin") == f"merge:{best}")
    assert first["loss"] == pytest.approx(made[best]["loss"], abs=1e-6)  # at the centre, the prior adds nothing
    merges = [row for name, row in rows.items() if name.startswith("merge_")]
    assert all(rows["search"]["val_loss"] <= row["val_loss"] + 1e-6 for row in merges if row["name"][6:] in made)
    popgen(*SEARCH, "--evaluations", 80, "--baselines", "none", "--out", "parts")
    before = Path("parts/merges-mlp-s-hidden-12.safetensors").read_bytes()
    popgen("search", "--resume", "parts", "--evaluations", 110)
    assert timeless(Path("whole"))[1:] == timeless(Path("parts"))[1:]  # two runs make the same merges, too
    assert Path("parts/merges-mlp-s-hidden-12.safetensors").read_bytes() == before
    Path("parts/merges-mlp-s-hidden-12.safetensors").write_bytes(b"{")
    assert "merges-mlp-s-hidden-12.safetensors cannot be read" in popgen("search", "--resume", "parts", code=5).err


@pytest.mark.usefixtures("own_zoo")
def test_merges_by_name_and_none(popgen: Any) -> None:
    common = (*SEARCH, "--evaluations", 40, "--baselines", "none", "--json")
    [result] = popgen(*common, "--merges", "none").results
    assert "start" not in result["details"] and "merges" not in result["details"]
    called = popgen(*common, "--merges", "adamerging,uniform_soup", "--out", "run")
    assert list(called.results[0]["details"]["merges"]) == ["adamerging", "uniform_soup"]
    kept = load_file(Path("run/merges-mlp-s-hidden-12.safetensors"))
    experts = Zoo.open("zoos/own").matrix(Zoo.open("zoos/own").select())
    assert torch.allclose(kept["uniform_soup"], experts.mean(0), atol=1e-6)
    assert "there is no merging method called 'tie'" in popgen(*common, "--merges", "tie", code=3).err


@pytest.mark.usefixtures("own_zoo")
def test_without_labels_no_merge_reads_them(popgen: Any) -> None:
    called = popgen(*SEARCH, "--evaluations", 50, "--objective", "mutual_information", "--json")
    made = called.results[0]["details"]["merges"]
    assert (
        "greedy_soup" not in made
        and "no merge by greedy_soup: greedy_soup needs labelled validation images" in called.err
    )
    assert made["task_arithmetic"]["text"] == "scale 0.4" and made["ties"]["cost"] == 0


@pytest.mark.slow
@pytest.mark.usefixtures("own_zoo")
def test_two_workers_make_the_same_history(popgen: Any, timeless: Any) -> None:
    for workers in (0, 2):
        popgen(*SEARCH, "--evaluations", 70, "--baselines", "none", "--out", f"w{workers}", "--workers", workers)
    assert timeless(Path("w0"))[1:] == timeless(Path("w2"))[1:]


@pytest.mark.slow
@pytest.mark.usefixtures("own_zoo")
def test_the_bench_of_merging() -> None:
    script = Path(__file__).parents[4] / "examples" / "bench" / "merging.py"
    options = [
        "--zoo",
        "zoos/own",
        "--arch",
        SPEC.name,
        "--source",
        "digits",
        "--evaluations",
        "60",
        "--seeds",
        "1",
        "--no-union",
    ]
    done = subprocess.run([sys.executable, script, *options], capture_output=True, text=True, check=True)
    rows = {
        line[:28].strip(): float(line[28:].split()[0])
        for line in done.stdout.splitlines()
        if re.match(r".{28} 0\.", line)
    }
    assert list(rows)[:3] == ["base", "experts, own task", "experts, all tasks"]
    assert {
        "best expert",
        "merge_ties",
        "search, no merges",
        "search from the average",
        "search from the best merge",
    } <= set(rows)
    assert rows["experts, own task"] > max(rows["experts, all tasks"], rows["base"])
