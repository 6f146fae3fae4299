"""Folders of transformers come into a zoo as networks of one architecture, and those that would be read differently are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_bases import save_base, save_classifier

from popgen.archs.classifiers.labels import named_labels
from popgen.data import load_data
from popgen.errors import BadInput, PopgenError
from popgen.networks.train import evaluate
from popgen.zoo import Zoo
from popgen.zoo.imports.checkpoint import ForeignCheckpoint
from popgen.zoo.imports.classifiers import is_classifier_folder
from popgen.zoo.imports.listing import list_checkpoints

TUNES = {"one": 1, "two": 2}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a base, two fine-tunes of it, and a table of texts."""
    folder = tmp_path_factory.mktemp("models")
    save_classifier(folder / "base", seed=0)
    for name, seed in TUNES.items():
        save_classifier(folder / "tunes" / name, seed=seed)
    rows = [
        {"text": f"the {a} was {b}", "label": b} for a in ("film", "food", "meal", "story") for b in ("bad", "good")
    ]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows * 4)))
    return folder


@pytest.fixture
def tune(models: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of a fine-tune with other settings, under a name of its own, because settings are read once in a process."""

    def copy(name: str, **settings: Any) -> Path:
        return alter(Path(shutil.copytree(models / "tunes" / "one", tmp_path / name)), **settings)

    return copy


def alter(folder: Path, **settings: Any) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return folder


def refusal(folder: Path, arch: str) -> str:
    """The error with which a folder is left out."""
    [foreign] = list_checkpoints(folder, ForeignCheckpoint(folder, arch, "text:mine.jsonl"))
    with pytest.raises(PopgenError) as caught:
        foreign.read()
    return str(caught.value)


def test_fine_tunes_in_a_folder_become_one_zoo(popgen: Any, models: Path, here: Path) -> None:
    (models / "tunes" / "notes").mkdir(exist_ok=True)
    options = ("--zoo", here / "zoo", "--data", "text:mine.jsonl", "--check", "text:mine.jsonl", "--json")
    called = popgen("zoo", "import", "tunes", "--arch", "hf:base", "--as", "bert", *options, cwd=models)
    assert [row["id"] for row in called.json["added"]] == [f"bert/text:mine.jsonl/{name}" for name in TUNES]
    assert "passed over: 1 sub-folders" in called.err
    zoo, data = Zoo.open(here / "zoo"), load_data(f"text:{models}/mine.jsonl")
    for record in zoo.records:
        state, spec = load_file(models / "tunes" / record.lineage / "model.safetensors"), zoo.spec("bert")
        assert torch.equal(spec.to_flat(zoo.state(record)), spec.to_flat(state))
        assert record.classes == ("bad", "good") and spec.config.builder == f"hf:{(models / 'base').resolve()}"
        assert record.metrics["test_accuracy"] == evaluate(spec, state, data.test)[1]


def test_one_folder_is_an_architecture_of_its_own(popgen: Any, models: Path, here: Path) -> None:
    called = popgen("zoo", "import", "base", "--zoo", here / "zoo", "--data", "text:mine.jsonl", "--json", cwd=models)
    [added] = called.json["added"]
    assert (added["id"], added["arch"]) == ("hf:base/text:mine.jsonl/base", "hf:base")


def test_a_score_numbers_classes_as_the_network_does(popgen: Any, models: Path, here: Path) -> None:
    options = (
        "--data",
        "text:mine.jsonl",
        "--check",
        f"text:{models}/mine.jsonl",
        "--arch",
        f"hf:{models}/base",
        "--json",
    )
    plain = popgen("zoo", "import", models / "tunes" / "one", "--zoo", "plain", *options).json["added"][0]
    turned = Path(shutil.copytree(models / "tunes" / "one", here / "turned"))
    alter(turned, id2label={"0": "good", "1": "bad"}, label2id={"good": 0, "bad": 1})
    state = load_file(turned / "model.safetensors")
    flipped = {name: one.flip(0).contiguous() if name.startswith("classifier.") else one for name, one in state.items()}
    save_file(flipped, turned / "model.safetensors", {"format": "pt"})
    again = popgen("zoo", "import", turned, "--zoo", "turned-zoo", *options).json["added"][0]
    assert again["metrics"] == pytest.approx(plain["metrics"])
    assert Zoo.open(here / "turned-zoo").records[0].classes == ("good", "bad")


def test_weights_of_another_network_are_refused_with_the_difference(
    models: Path, tune: Callable[..., Path], tmp_path: Path
) -> None:
    arch, relu = f"hf:{models}/base", tune("relu", hidden_act="relu")
    assert "has other settings than hf:" in (text := refusal(relu, arch)) and "hidden_act relu, not gelu" in text
    assert f"--arch hf:{relu}" in text
    same = tune("same", hidden_dropout_prob=0.3, _name_or_path="elsewhere")
    [fits] = list_checkpoints(same, ForeignCheckpoint(same, arch, "d"))
    assert fits.read()[0].keys() == load_file(same / "model.safetensors").keys()
    cased = tune("cased")
    content = json.loads((cased / "tokenizer.json").read_text())
    (cased / "tokenizer.json").write_text(json.dumps({**content, "normalizer": None}))
    assert "has another tokenizer than hf:" in refusal(cased, arch)
    three = save_classifier(tmp_path / "three", labels=("a", "b", "c"))
    assert "has 3 classes, the architecture has 2\na, b, c" in (text := refusal(three, arch))
    assert f"--arch hf:{models.resolve()}/base/num_classes:3" in text
    [fits] = list_checkpoints(three, ForeignCheckpoint(three, f"{arch}/num_classes:3", "d"))
    assert fits.labels == ("a", "b", "c") and fits.read()[0]["classifier.weight"].shape == (3, 32)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (three / name).unlink()
    bare = Path(shutil.move(three, tmp_path / "bare"))
    [fits] = list_checkpoints(bare, ForeignCheckpoint(bare, f"{arch}/num_classes:3", "d"))
    assert fits.read(), "without a tokenizer of its own it is read by the architecture's"


def test_what_is_no_classifier_is_listed_as_before(models: Path, tmp_path: Path) -> None:
    assert is_classifier_folder(models / "base") and not is_classifier_folder(models / "base" / "model.safetensors")
    assert not is_classifier_folder(models) and not is_classifier_folder(Path("x" * 5000))
    base = save_base(tmp_path / "base")
    assert not is_classifier_folder(base)
    (base / "config.json").write_text("{")
    assert not is_classifier_folder(base)
    [one] = list_checkpoints(base, ForeignCheckpoint(base, "mlp-s", "d"))
    assert (one.hub, one.stem) == ("", "model")


def test_what_belongs_to_files_is_refused_for_a_folder(models: Path) -> None:
    folder = models / "base"
    for given in ({"key": "model"}, {"use": "ema"}):
        [one] = list_checkpoints(folder, ForeignCheckpoint(folder, data="d", **given))
        with pytest.raises(BadInput, match="is no file of several state dicts"):
            one.check()
    [one] = list_checkpoints(folder, ForeignCheckpoint(folder, data="d", ignore=("classifier.*",)))
    with pytest.raises(BadInput, match=r"classifier\.weight"):
        one.read()


def test_labels_that_are_only_numbered_are_no_names() -> None:
    assert named_labels({0: "LABEL_0", 1: "LABEL_1"}) == named_labels(None) == named_labels({"3": "a"}) == ()
    assert named_labels({str(i): f"class {i}" for i in range(11)})[10] == "class 10"
