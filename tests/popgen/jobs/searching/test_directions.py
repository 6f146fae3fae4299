"""`popgen train` and `popgen search` with a generator of directions: from a spec to weights for few labels."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from popgen.zoo import Zoo
from search import History

FEW = "digits/rotate:180/labels:30"
SPEC = {
    "zoo": {"name": "one", "archs": ["cnn-s"], "data": ["digits"], "recipe": {"epochs": 3}, "workers": 0},
    "generator": {
        "threads": 1,
        "encoders": {"labels": False, "images_per_class": 8, "width": 16, "heads": 2, "out": 8},
        "vae": {"steps": 0, "latent_tokens": 1, "latent_width": 1, "linear": False},
        "restore": {"rank": 0},
        "episodes": {
            "steps": 20,
            "learning_rate": 0.005,
            "data": ["digits/invert"],
            "ways": 6,
            "shots": [3],
            "images": 9,
        },
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, popgen: Any) -> Path:
    made = tmp_path_factory.mktemp("few")
    (made / "spec.yaml").write_text(yaml.safe_dump(SPEC))
    called = popgen("train", "spec.yaml", "--out", "gen", cwd=made)
    assert "generator: gen, directions from each base, query loss" in called.out
    return made


def test_a_search_with_few_labels_moves_along_directions(folder: Path, popgen: Any) -> None:
    search = ("search", "--arch", "cnn-s", "--generator", "gen", "--data", FEW, "--workers", 0, "--json")
    called = popgen(*search, "--evaluations", 12, "--out", "run", cwd=folder)
    [found] = called.results
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == ["random", "best_zoo", "base", "generated", "line", "search"]
    assert found["details"]["head"] == "refit"  # although the classes have the base's names
    assert found["details"]["space"] == "directions"
    assert found["details"]["layer_groups"] == ["0", "3"]
    assert rows["base"]["test_accuracy"] == rows["best_zoo"]["test_accuracy"]  # the base is the zoo's only network
    assert rows["line"]["val_loss"] <= min(rows["base"]["val_loss"], rows["generated"]["val_loss"])
    first = (folder / "run/history.jsonl").read_text()
    popgen("search", "--resume", "run", "--evaluations", 14, "--workers", 0, "--json", cwd=folder)
    assert (folder / "run/history.jsonl").read_text().startswith(first)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, popgen: Any) -> Path:
    made = tmp_path_factory.mktemp("several")
    generator = SPEC["generator"] | {"episodes": SPEC["generator"]["episodes"] | {"starts": 2, "steps": 40}}
    (made / "spec.yaml").write_text(yaml.safe_dump({"zoo": SPEC["zoo"] | {"seeds": [0, 1, 2]}, "generator": generator}))
    called = popgen("train", "spec.yaml", "--out", "gen", cwd=made)
    assert "note: directions for cnn-s start from cnn-s/digits/s" in called.err
    assert "directions for cnn-s start from cnn-s/digits/s" in (made / "gen/README.md").read_text()
    return made


def test_a_search_takes_the_best_start_and_an_ensemble_searches_the_others(several: Path, popgen: Any) -> None:
    search = ("search", "--arch", "cnn-s", "--generator", "gen", "--data", FEW, "--workers", 0, "--json")
    [alone] = popgen(*search, "--evaluations", 12, "--out", "alone", cwd=several).results
    called = popgen(*search, "--evaluations", 12, "--ensemble", 5, "--out", "both", cwd=several)
    assert "cnn-s: loss half of the way from each start: cnn-s/digits/s" in called.err
    [found] = called.results
    rows = {row["name"]: row for row in found["rows"]}
    assert [row for row in found["rows"] if row["name"] != "ensemble"] == alone["rows"]  # the search is the same
    assert found["details"]["start"] == alone["details"]["start"]
    assert found["details"]["evaluations_before"] == 2
    ids = {record.id for record in Zoo.open(several / "zoos/one").records}
    [first, *others] = found["details"]["ensemble"]["members"]
    [other] = set(others) - ids
    assert first == "search" and set(others) >= ids
    assert other.removeprefix("search from ") in ids - {found["details"]["start"]}
    with History(several / "both/history.jsonl", f"cnn-s from {other.removeprefix('search from ')}") as history:
        assert len(history.records) == 12
    of_others = rows["ensemble"]["evaluations"] - rows["search"]["evaluations"]
    assert of_others == 3 + 12  # three networks of the zoo, and the other search
    before = (several / "both/history.jsonl").read_text()
    [again] = popgen("search", "--resume", "both", "--workers", 0, "--json", cwd=several).results
    assert again["rows"] == found["rows"]
    assert (several / "both/history.jsonl").read_text() == before


def test_a_kept_head_is_refused_and_so_are_samples(folder: Path, popgen: Any) -> None:
    named = ("--arch", "cnn-s", "--generator", "gen", "--data", "digits")
    called = popgen("search", *named, "--head", "keep", "--workers", 0, cwd=folder, code=4)
    assert "directions from its bases alone" in called.err
    assert "Leave --head out" in called.err
    for command in (
        ("generate", *named, "--out", "made"),
        ("adapt", *named, "--out", "adapted"),
        ("audit", "gen", "--data", "digits", "--out", "audited"),
        ("encode", "zoos/one", "--generator", "gen", "--out", "encoded"),
        ("compression", "gen", "--zoo", "zoos/one"),
    ):
        assert "no latents to sample" in popgen(*command, cwd=folder, code=4).err
    called = popgen(
        "search", "--arch", "cnn-s/channels:12-24", "--generator", "gen", "--data", "digits", cwd=folder, code=4
    )
    assert "has directions from its bases alone, and one of cnn-s" in called.err


@pytest.mark.slow  # two searches, each with fine-tuning
def test_the_bench_of_few_labels(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Path(__file__).parents[4] / "examples/bench/few_labels.py"
    given = [
        "--arch",
        "cnn-s",
        "--zoo",
        "zoos/one",
        "--data",
        "digits/rotate:180",
        "--generator",
        "gen",
        "--ordinary",
        "gen",
    ]
    sizes = ["--labels", "30", "--draws", "1", "--evaluations", "8", "--json", "cells.json"]
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [str(script), *given, *sizes])
    runpy.run_path(str(script), run_name="__main__")
    cells = json.loads((folder / "cells.json").read_text())["30"]["0/0"]
    assert cells["ordinary"] == cells["generated"]
    assert cells["result"] in (cells["search"], cells.get("finetuned_search"), cells.get("finetuned_start"))
    assert "30 labels, 1 searches" in capsys.readouterr().out
