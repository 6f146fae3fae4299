"""A language model's layers from the base to the table: ranked, fine-tuned on two domains, and searched on a third."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from popgen.archs.language.bases import base_sha256
from popgen.archs.outside import pretrained_state
from popgen.baselines.layers import AROUND_BASE, DRAWN_AND_TRAINED
from popgen.zoo import Zoo

sys.path.insert(0, str(Path(__file__).parents[2]))
from tiny_lm import WORDS, make_llama, save_llama, save_text

BASE = "lm:tiny"
GENERATOR = """
zoo: {name: none, archs: [mlp-s], data: [digits]}
generator:
  vae: {latent_tokens: 1, latent_width: 4, width: 16, behaviour: 0, steps: 60, batch: 4, gate: 0.3}
  encoders: {images: "text:text-tiny", text: text-tiny, labels: false, images_per_class: 4, width: 16, out: 8, steps: 10}
  prior: {width: 16, layers: 1, steps: 10, batch: 8}
  tune: {steps: 4, networks: 2, images: 16}
  describe: {steps: 0}
  restore: {rank: 2, steps: 0}
"""
SEARCH = ("--arch", "model", "--data", "lines:sea.txt/block:64/blocks:8", "--zoo", "zoos/words", "--base", BASE)
OPTIONS = ("--evaluations", 30, "--prior-width", 0, "--workers", 0, "--json")


@pytest.fixture(scope="module")
def parts(popgen: Any, made: Path) -> list[str]:
    found: list[str] = popgen("layers", BASE, "--top", "50%", cwd=made).out.strip().split(",")
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the base `tiny` and a text of each domain."""
    folder = tmp_path_factory.mktemp("language")
    save_llama(folder / "tiny")
    for domain in WORDS:
        save_text(folder / f"{domain}.txt", domain, 1500)
    return folder


@pytest.fixture(scope="module")
def zoo(popgen: Any, made: Path, parts: list[str]) -> Zoo:
    """A zoo of the two domains that are not searched, two states of each training."""
    spec = {
        "name": "words",
        "archs": [{"name": "model", "like": f"{BASE}/context:32"}],
        "data": ["lines:kitchen.txt/block:64", "lines:garden.txt/block:64"],
        "start": "pretrained",
        "recipe": {"epochs": 4, "batch": 16, "lr": 0.01, "parts": parts, "snapshots": 2, "snapshot_every": 8},
        "workers": 0,
    }
    (made / "spec.yaml").write_text(yaml.safe_dump({"zoo": spec}))
    popgen("zoo", "build", "spec.yaml", cwd=made)
    return Zoo.open(made / "zoos" / "words")


def test_the_ranked_matrices_have_the_names_of_the_networks_tensors(parts: list[str]) -> None:
    assert len({name.split(".", 3)[3] for name in parts}) == len(parts) >= 5, "at most one of two matrices of each kind"
    assert set(parts) < set(make_llama().state_dict())


def test_only_the_parts_were_trained_and_perplexity_fell(zoo: Zoo, made: Path, parts: list[str]) -> None:
    base = pretrained_state(f"lm:{made / 'tiny'}")
    for record in zoo.records:
        state = zoo.state(record)
        moved = {name for name, tensor in state.items() if not torch.equal(tensor, base[name])}
        assert moved == set(parts)
        assert record.parent == "start:pretrained" and not record.built
    ends = {record.id: record for record in zoo.records}
    last, earlier = (ends[f"model/lines:kitchen.txt/block:64/s0{tail}"] for tail in ("", "/end-8"))
    assert last.metrics["test_score"] < earlier.metrics["test_score"] < 256, "perplexity, lower is better"
    assert last.goodness("test") > earlier.goodness("test")


@pytest.mark.usefixtures("zoo")
def test_a_search_stands_beside_its_rivals(popgen: Any, made: Path, parts: list[str]) -> None:
    steps = ("--finetune-epochs", 3, "--finetune-batch", 8, "--finetune-parts")
    command = (
        "search",
        *SEARCH,
        "--parts",
        ",".join(parts),
        *OPTIONS,
        *steps,
        "--baselines",
        "all",
        "--space",
        "mix",
        "--merges",
        "none",
    )
    [found] = popgen(*command, "--out", "run", cwd=made).results
    rows = {row["name"]: row for row in found["rows"]}
    assert {*AROUND_BASE, *DRAWN_AND_TRAINED, "random", "best_zoo", "average", "noise", "search"} == set(rows)
    assert {row["unit"] for row in rows.values()} == {"perplexity"}
    loss = {name: row["val_loss"] for name, row in rows.items()}
    assert loss["search"] <= min(loss[name] for name in ("base", "best_zoo"))
    assert loss["trained_average"] <= loss["average_of_all"] and loss["trained_base"] < loss["base"]
    assert loss["noise_around_base"] < loss["base"] + 1 and loss["random"] > loss["search"]
    assert rows["joint_gaussian"]["evaluations"] == rows["mixtures"]["evaluations"] == 30
    assert rows["search"]["finetuned"][0]["val_score"] < rows["search"]["val_score"]
    popgen("report", "run", "--format", "md", cwd=made)
    written = (made / "run" / "report.md").read_text()
    [lower] = re.findall(r"Lower in the test column: (.+)\.$", written, re.M) or [""]
    named = re.findall(r"(\w+) \(", lower.replace("\\", ""))
    assert all(rows[name]["test_score"] < rows["search"]["test_score"] for name in named)
    assert "Higher in the test column" not in written
    assert "loss (that of the task) on the validation split" in written and "--finetune-parts" in written
    base = pretrained_state(f"lm:{made / 'tiny'}")
    for file in ("best-model.safetensors", "finetuned-model-e3.safetensors"):
        state = load_file(made / "run" / file)
        assert {name for name in state if not torch.equal(state[name], base[name])} == set(parts)
        assert make_llama().load_state_dict(state, strict=False).unexpected_keys == []


def test_the_principal_components_of_the_experts_are_searched(
    popgen: Any, zoo: Zoo, made: Path, parts: list[str]
) -> None:
    command = ("search", *SEARCH, "--parts", ",".join(parts), *OPTIONS, "--space", "principal", "--baselines", "none")
    [found] = popgen(*command, "--out", "principal", cwd=made).results
    details = found["details"]
    assert (details["space"], details["layer_groups"]) == ("principal", ["all"])
    assert details["barriers"] == {} and details["evaluations_before"] == len(zoo.records)
    assert found["rows"][-1]["val_loss"] <= min(details["expert_losses"])


@pytest.mark.parametrize(
    ("options", "code", "piece"),
    [
        (("--data", "digits"), 4, "data set 'digits' is for classification, 'model' does next-token"),
        (("--objectives", "error"), 4, "the objective 'error' is for classification"),
        (("--base", "lm:nowhere/at/all"), 3, "there is no language model 'nowhere/at/all'"),
        (("--base", "lm:other"), 4, "does not fit the architecture"),
        (("--parts", ""), 4, "needs parts"),
        (("--parts", "lm_head.weight"), 4, "no tensor of 'model' matches"),
    ],
)
def test_what_does_not_go_together_is_refused(
    popgen: Any, zoo: Zoo, made: Path, options: tuple[str, ...], code: int, piece: str
) -> None:
    assert len(zoo.records) == 4
    if not (made / "other").exists():
        model = make_llama(vocabulary=300)
        model.save_pretrained(made / "other")
    command = {"--parts": "*.q_proj.weight", **dict(zip(SEARCH[::2], SEARCH[1::2], strict=True))}
    command |= dict(zip(options[::2], options[1::2], strict=True))
    arguments = [text for pair in command.items() for text in pair]
    assert piece in popgen("search", *arguments, cwd=made, code=code).err


@pytest.mark.usefixtures("zoo")
def test_a_base_that_changed_after_the_zoo_was_built_is_refused(popgen: Any, made: Path) -> None:
    file = made / "tiny" / "tokenizer_config.json"
    before = file.read_bytes()
    file.write_bytes(before + b"\n")
    base_sha256.cache_clear()  # as in a process that starts later
    try:
        refused = popgen("search", *SEARCH, "--parts", "*.q_proj.weight", "--dry-run", cwd=made, code=4)
    finally:
        file.write_bytes(before)
        base_sha256.cache_clear()
    assert (
        "tiny' is not the one that the network was made with" in refused.err and "the hash of its files" in refused.err
    )


def test_parts_that_name_nothing_are_refused(popgen: Any, made: Path, zoo: Zoo) -> None:
    spec = yaml.safe_load((made / "spec.yaml").read_text())
    spec["zoo"]["recipe"]["parts"] = ["*.query.weight"]
    (made / "wrong.yaml").write_text(yaml.safe_dump(spec))
    called = popgen("zoo", "build", "wrong.yaml", "--out", "wrong", cwd=made, code=4)
    assert "no parameter of 'model' matches '*.query.weight' of recipe.parts" in called.err
    spec["zoo"] |= {"archs": ["mlp-s"], "data": ["digits"]}
    spec["zoo"]["recipe"]["parts"] = []
    (made / "wrong.yaml").write_text(yaml.safe_dump(spec))
    called = popgen("zoo", "build", "wrong.yaml", "--out", "wrong", cwd=made, code=4)
    assert "'mlp' brings no weights of its own" in called.err
    assert len(zoo.records) == 4


@pytest.mark.usefixtures("zoo")
def test_a_bench_counts_higher_scores_as_better(popgen: Any, made: Path) -> None:
    cell = {"archs": ["model"], "data": ["lines:sea.txt/block:64"], "seeds": [0], "rivals": ["best_zoo"], "further": {}}
    content = {"name": "words", **cell, "search": {"zoo": "zoos/words", "evaluations": 30}}
    (made / "bench.yaml").write_text(yaml.safe_dump(content))
    called = popgen("bench", "bench.yaml", "--out", "bench", cwd=made, code=4)
    assert "a bench compares scores of which a higher one is better, and these are perplexity" in called.err


@pytest.mark.slow  # six searches
def test_the_script_that_compares_searches_over_layers(made: Path, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    for domain in WORDS:
        (tmp_path / "text" / f"{domain}.txt").write_bytes((made / f"{domain}.txt").read_bytes())
    described = {domain: {"description": f"Lines about the {domain}."} for domain in WORDS}
    (tmp_path / "text" / "tasks.json").write_text(json.dumps(described))
    (tmp_path / "spec.yaml").write_text(GENERATOR)
    script = Path(__file__).parents[4] / "examples" / "bench" / "language_layers.py"
    arguments = ["--base", f"lm:{made / 'tiny'}", "--text", "text", "--held-out", "sea", "--seeds", "0", "1"]
    arguments += ["--generator", "spec.yaml"]
    sizes = [
        "--evaluations",
        "36",
        "--context",
        "32",
        "--block",
        "64",
        "--blocks",
        "8",
        "--epochs",
        "3",
        "--every",
        "4",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), *arguments, *sizes]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr[-3000:]
    table = dict(re.findall(r"^\| ([\w, ]+) \| ([\d.]+) ± [\d.]+ \|$", done.stdout, re.M))
    figures = {name: float(value) for name, value in table.items()}
    assert {"base", "mixtures", "trained average", "search, principal", "search, mix, then SGD"} <= set(figures)
    assert {"generated words", "generated, best of all", "search, latent", "search, latent, then SGD"} <= set(figures)
    assert "generated both, then 4 steps of SGD" in figures and figures["search, latent"] < figures["base"]
    assert figures["search, mix"] < figures["base"]
    assert "zoo of seed 1: garden, kitchen" in done.stdout
