"""Classifiers of transformers from a zoo to a result: built from pretrained weights or imported, searched whole and by parts, generated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_bases import save_classifier
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from popgen.archs.outside import pretrained_state
from popgen.data import load_data
from popgen.texts import to_texts
from popgen.zoo import Zoo

DATA, PARTS = "text:mine.jsonl", "classifier.*,bert.encoder.layer.2.*"
SEARCH = ("search", "--arch", "bert", "--zoo", "zoos/tuned", "--data", DATA, "--workers", 0, "--json", "--evaluations")
GENERATOR = {
    "vae": {"latent_tokens": 1, "latent_width": 4, "width": 16, "behaviour": 0, "steps": 20, "batch": 2, "gate": 1},
    "encoders": {"images": "text:text-tiny", "text": "text-tiny", "labels": False, "images_per_class": 4, "width": 16, "out": 8, "steps": 4},
    "prior": {"width": 16, "layers": 1, "steps": 4, "batch": 4},
    "tune": {"steps": 2, "networks": 2, "images": 16},
    "describe": {"steps": 0},
    "restore": {"rank": 1, "steps": 2, "networks": 2, "images": 8},
}  # fmt: skip


@pytest.fixture(scope="module")
def place(popgen: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, texts of two tasks, and a zoo of networks that were trained from the base."""
    folder = tmp_path_factory.mktemp("classifiers")
    save_classifier(folder / "base")
    for name, good in (("first", ("good", "fine")), ("mine", ("good", "warm"))):
        rows = [
            {"text": f"the {a} was {b} and {c}", "label": "good" if b in good else "bad"}
            for a in ("film", "food", "meal", "story")
            for b in (*good, "bad", "dull")
            for c in ("not", "very", "it", "a")
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    spec = {
        "name": "tuned",
        "archs": [{"name": "bert", "like": "hf:base/context:16"}],
        "data": ["text:first.jsonl"],
        "seeds": [0, 1],
        "start": "pretrained",
        "recipe": {"epochs": 12, "batch": 8, "lr": 0.003, "weight_decay": 0},
        "workers": 0,
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump({"zoo": spec, "generator": GENERATOR}))
    popgen("zoo", "build", "spec.yaml", cwd=folder)
    return folder


def test_a_zoo_begins_at_the_pretrained_weights(place: Path) -> None:
    zoo, base = Zoo.open(place / "zoos" / "tuned"), pretrained_state(f"hf:{place}/base")
    start = zoo.start("bert")
    assert start is not None and torch.equal(start, zoo.spec("bert").to_flat(base))
    assert [record.parent for record in zoo.records] == ["start:pretrained"] * 2
    assert all(record.metrics["test_accuracy"] > 0.8 for record in zoo.records)
    assert all(record.classes == ("bad", "good") for record in zoo.records)


def test_texts_are_not_mirrored(popgen: Any, place: Path) -> None:
    refused = popgen(*SEARCH, 12, "--finetune-augment", "flip-crop", "--out", "refused", code=4, cwd=place)
    assert "flip-crop mirrors and shifts images, and 'bert' reads sequences" in refused.err
    assert not (place / "refused").exists()


def test_a_search_leaves_a_folder_that_transformers_loads(popgen: Any, place: Path) -> None:
    found = popgen(*SEARCH, 12, "--out", "whole", "--finetune-epochs", 1, cwd=place).results[0]
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["search"]["val_accuracy"] >= rows["best_zoo"]["val_accuracy"]
    test = load_data(f"text:{place}/mine.jsonl").test
    model = AutoModelForSequenceClassification.from_pretrained(place / "whole" / "best-bert-hf").eval()
    tokenizer = AutoTokenizer.from_pretrained(place / "whole" / "best-bert-hf")
    with torch.no_grad():
        logits = model(**tokenizer(to_texts(test.inputs), padding=True, return_tensors="pt")).logits
    accuracy = float((logits.argmax(1) == test.targets).double().mean())
    assert accuracy == pytest.approx(rows["search"]["test_accuracy"])
    assert model.config.id2label == {0: "bad", 1: "good"}
    assert (place / "whole" / "finetuned-bert-e1-hf" / "model.safetensors").is_file()
    with safe_open(place / "whole" / "finetuned-bert-e1.safetensors", "pt") as file:
        recipe = json.loads(file.metadata()["finetuned"])
    assert (recipe["optimizer"], recipe["lr"]) == ("adamw", 5e-5), "the recipe of transformers that read texts"
    weights = load_file(place / found["weights"])
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.slow
def test_parts_keep_the_bases_other_tensors(popgen: Any, place: Path) -> None:
    options = ("--parts", PARTS, "--base", "hf:base", "--space", "low-rank", "--out", "parts")
    found = popgen(*SEARCH, 20, *options, cwd=place).results[0]
    state, base = load_file(place / found["weights"]), pretrained_state(f"hf:{place}/base")
    moved = {name for name, tensor in state.items() if not torch.equal(tensor, base[name])}
    assert moved and all(name.startswith(("classifier.", "bert.encoder.layer.2.")) for name in moved)
    assert "base" in {row["name"] for row in found["rows"]}
    resumed = popgen("search", "--resume", "parts", "--evaluations", 24, "--workers", 0, "--json", cwd=place).results[0]
    assert resumed["rows"][-1]["evaluations"] == 24
    called = popgen(*SEARCH, 20, "--parts", PARTS, "--base", "hf:base/num_classes:3", cwd=place, code=4)
    assert "classifier.weight is (3, 32), not (2, 32)" in called.err
    ranked = popgen("layers", "hf:base", "--top", "30%", cwd=place).out
    assert set(ranked.strip().split(",")) < set(base)


@pytest.mark.slow
def test_other_classes_are_trained_with_a_new_head(popgen: Any, place: Path) -> None:
    rows = [
        {"text": f"the {a} was {b}", "label": b}
        for a in ("film", "food", "meal", "story")
        for b in ("bad", "good", "cold")
    ]
    (place / "three.jsonl").write_text("\n".join(map(json.dumps, rows * 5)))
    spec = yaml.safe_load((place / "spec.yaml").read_text())["zoo"]
    spec |= {
        "name": "three",
        "data": ["text:three.jsonl"],
        "archs": [{"name": "bert3", "like": "hf:base", "classes": 3}],
    }
    (place / "three.yaml").write_text(yaml.safe_dump({"zoo": spec}))
    popgen("zoo", "build", "three.yaml", cwd=place)
    zoo = Zoo.open(place / "zoos" / "three")
    assert [record.classes for record in zoo.records] == [("bad", "cold", "good")] * 2
    assert min(record.metrics["test_accuracy"] for record in zoo.records) > 0.6
    called = popgen(*SEARCH, 12, "--data", "text:three.jsonl", "--out", "refitted", cwd=place)
    assert "head refit" in called.err, "a head of two classes is refitted for three"
    model = AutoModelForSequenceClassification.from_pretrained(place / "refitted" / "best-bert-hf")
    assert model.config.id2label == {0: "bad", 1: "cold", 2: "good"}


@pytest.mark.slow
def test_a_generator_makes_classifiers(popgen: Any, place: Path) -> None:
    popgen("train", "spec.yaml", "--zoo", "zoos/tuned", "--out", "generator", cwd=place)
    options = ("--generator", "generator", "--arch", "bert", "--data", DATA, "-n", 2)
    made = popgen("generate", *options, "--out", "made", "--json", cwd=place).json["networks"]
    folder = (place / made[0]["weights"]).with_name("00-hf")
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    state = load_file(place / made[0]["weights"])
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert model.config.id2label == {0: "bad", 1: "good"}
    found = popgen("search", *options[:-2], "--evaluations", 12, "--workers", 0, "--out", "latent", "--json", cwd=place)
    assert "generated_best" in {row["name"] for row in found.results[0]["rows"]}
