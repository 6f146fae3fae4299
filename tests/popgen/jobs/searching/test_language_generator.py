"""A generator of a language model's fine-tuned layers: trained, searched on a held-out domain, and asked by a description."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from popgen.archs.outside import pretrained_state
from popgen.baselines.layers import AROUND_BASE, DRAWN_AND_TRAINED
from popgen.configs.generator import read_spec
from popgen.generator import Generator
from popgen.zoo import Zoo

sys.path.insert(0, str(Path(__file__).parents[2]))
from tiny_lm import WORDS, save_llama, save_text

PARTS = ["*.q_proj.weight", "model.layers.1.mlp.up_proj.weight"]
SPEC = """
zoo:
  name: words
  archs: [{name: model, like: "lm:tiny/context:32"}]
  data: ["lines:kitchen.txt/block:64", "lines:garden.txt/block:64"]
  start: pretrained
  recipe: {epochs: 4, batch: 16, lr: 0.01, snapshots: 2, snapshot_every: 8}
  workers: 0
generator:
  vae: {latent_tokens: 1, latent_width: 4, width: 16, behaviour: 0, steps: 60, batch: 4, gate: 0.2}
  encoders: {images: "text:text-tiny", text: text-tiny, labels: false, images_per_class: 4, width: 16, out: 8, steps: 10}
  prior: {width: 16, layers: 1, steps: 10, batch: 8}
  tune: {steps: 8, networks: 2, images: 16}
  describe: {steps: 0}
  restore: {rank: 2, steps: 2, networks: 2, images: 8}
"""
DATA = ("--data", "lines:sea.txt/block:64/blocks:8")
FROM = ("--generator", "generators/words")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the base `tiny`, a text of each domain with its description, and a spec."""
    folder = tmp_path_factory.mktemp("layers")
    save_llama(folder / "tiny")
    for domain in WORDS:
        save_text(folder / f"{domain}.txt", domain, 1500)
    (folder / "tasks.json").write_text(
        json.dumps({name: {"description": f"Lines about the {name}."} for name in WORDS})
    )
    spec = yaml.safe_load(SPEC)
    spec["zoo"]["recipe"]["parts"] = PARTS
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    return folder


@pytest.fixture(scope="module")
def trained(popgen: Any, made: Path) -> Path:
    """The same folder with a zoo and a generator."""
    popgen("train", "spec.yaml", cwd=made)
    return made


def _moved(state: dict[str, torch.Tensor], base: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, tensor in state.items() if not torch.equal(tensor, base[name])}


def _parts(folder: Path) -> set[str]:
    """The names of the tensors that the generator moves."""
    return {tensor.name for tensor in Generator.from_pretrained(folder / "generators" / "words").moved["model"].tensors}


def test_only_what_was_fine_tuned_is_generated(trained: Path) -> None:
    generator, zoo = Generator.from_pretrained(trained / "generators" / "words"), Zoo.open(trained / "zoos" / "words")
    base, parts = (
        pretrained_state(f"lm:{trained / 'tiny'}"),
        {tensor.name for tensor in generator.moved["model"].tensors},
    )
    assert len(parts) == 3 and all("q_proj" in name or "up_proj" in name for name in parts)
    size = generator.moved["model"].size
    assert size < generator.spec("model").size / 4
    assert {len(path.offset) for path in generator.vae.linear.values()} == {size}  # type: ignore[arg-type]
    states = [generator.state("model", torch.randn(1, 4)) for _ in range(2)]
    assert all(_moved(state, base) == parts for state in states)
    restored = generator.restore("model", generator.codes, generator.residual_codes)
    originals = zoo.matrix([zoo.record(code.id) for code in generator.records])
    start = zoo.reference("model")
    assert float((restored - originals).norm() / (originals - start).norm()) < 0.5
    metrics = generator.provenance.metrics["retrieval"]["model"]
    assert metrics["train_decoded"] < 1.2 * metrics["train_original"], "perplexities"


GENERATED = {f"generated_{name}" for name in ("none", "words", "texts", "both", "best")}


def test_a_search_in_the_generator_stands_beside_its_rivals(popgen: Any, trained: Path) -> None:
    options = ("--evaluations", 24, "--population", 3, "--prior-width", 0, "--workers", 0, "--json")
    command = ("search", "--arch", "lm:tiny/context:32", *DATA, *FROM, "--zoo", "zoos/words", *options)
    [found] = popgen(*command, "--out", "run", cwd=trained).results
    loss = {row["name"]: row["val_loss"] for row in found["rows"]}
    rivals = {"base", "best_zoo", "nearest", "average", "average_of_all", "ridge"}
    assert set(loss) == {*GENERATED, *rivals, "search"}
    assert loss["search"] <= min(loss[name] for name in (*GENERATED, "base")) + 1e-3
    assert max(loss[name] for name in GENERATED) < loss["base"], "what is generated for another domain beats the base"
    assert len({round(loss[name], 6) for name in GENERATED}) > 1
    best = load_file(trained / "run" / "best-lm-tiny-context-32.safetensors")
    assert _moved(best, pretrained_state(f"lm:{trained / 'tiny'}")) == _parts(trained)


@pytest.mark.slow  # each of the rows is trained
def test_all_rivals_and_training_of_what_is_generated(popgen: Any, trained: Path) -> None:
    options = ("--evaluations", 40, "--population", 4, "--prior-width", 0, "--workers", 0, "--baselines", "all")
    steps = ("--finetune-epochs", 2, "--finetune-batch", 8, "--finetune-parts")
    command = ("search", "--arch", "model", *DATA, *FROM, "--zoo", "zoos/words", *options, *steps, "--json")
    [found] = popgen(*command, "--out", "all", cwd=trained).results
    assert {*GENERATED, *AROUND_BASE, *DRAWN_AND_TRAINED, "noise", "search"} <= {row["name"] for row in found["rows"]}
    state = load_file(trained / "all" / "finetuned-model-e2.safetensors")
    assert _moved(state, pretrained_state(f"lm:{trained / 'tiny'}")) == _parts(trained)
    popgen("report", "all", "--format", "md", cwd=trained)
    assert "generated from its words and texts" in (trained / "all" / "report.md").read_text()


def test_layers_are_generated_for_a_description(popgen: Any, trained: Path) -> None:
    command = ("generate", "--arch", "model", *FROM, "-n", 2)
    popgen(*command, "--describe", "Lines about the sea.", "--out", "described", cwd=trained)
    states = [load_file(file) for file in sorted((trained / "described" / "model").glob("0*.safetensors"))]
    parts = _moved(states[0], pretrained_state(f"lm:{trained / 'tiny'}"))
    assert len(states) == 2 and len(parts) == 3 and _moved(states[1], states[0]) == parts, (
        "all layers are drawn together"
    )


def test_parts_of_what_is_generated(popgen: Any, trained: Path) -> None:
    options = ("--evaluations", 14, "--population", 2, "--workers", 0, "--baselines", "none", "--json")
    command = (
        "search",
        "--arch",
        "model",
        *DATA,
        *FROM,
        *options,
        "--parts",
        "*.0.*.q_proj.weight",
        "--base",
        "lm:tiny",
    )
    [found] = popgen(*command, "--out", "narrow", cwd=trained).results
    moved = _moved(load_file(trained / found["weights"]), pretrained_state(f"lm:{trained / 'tiny'}"))
    assert moved <= {"model.layers.0.self_attn.q_proj.weight"}


def test_the_spec_of_the_results_page_is_valid() -> None:
    content, config = read_spec(str(Path(__file__).parents[4] / "zoo_specs" / "language_layers.yaml"))
    assert len(content.zoo.data_names) == 4 and len(content.zoo.recipe.parts) == 7 and config.tune.steps == 40


@pytest.mark.slow
def test_a_perplexity_that_rises_fails_the_gate(popgen: Any, trained: Path) -> None:
    less = ("--set", "generator.vae.steps=1", "--set", "generator.vae.gate=0.001", "--zoo", "zoos/words")
    called = popgen("train", "spec.yaml", *less, "--out", "refused", cwd=trained, code=None)
    assert called.code != 0 and "points of the checkpoints' validation perplexity, 0.1 are allowed" in called.err
