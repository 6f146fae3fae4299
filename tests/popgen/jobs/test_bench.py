"""`popgen bench`: every row at the budget of the search, what is done is not done again, and what fails stops nothing else."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from popgen import run_bench
from popgen.configs.bench import RIVALS, BenchConfig, load_bench
from popgen.errors import BadInput, CannotResume, NotFound
from popgen.jobs.bench import plan, read, resumed
from popgen.jobs.benching.cell import CellJob
from popgen.trust import own_code

HERE = "digits/rotate:45"
BENCH = {"name": "small", "archs": ["mlp-s"], "data": [HERE], "search": {"evaluations": 60, "head": "keep"}}
NAME = "mlp-s-digits-rotate-45-s0"


def job(folder: Path, config: BenchConfig) -> tuple[CellJob, dict[str, Any]]:
    cells = plan(config)
    searches = {row: one.model_dump(mode="json") for row, one in cells[NAME].items()}
    made = CellJob(str(folder), own_code(), tuple(config.rivals), config.recipe.model_dump(mode="json"))
    return made, {"name": NAME, "searches": searches}


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a cell with all rivals, and what it found."""
    folder = tmp_path_factory.mktemp("cell")
    made, settings = job(folder, BenchConfig(**BENCH))
    return folder, made(settings)


def timeless(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in found["rows"]]


def test_every_rival_has_a_row_within_the_budget(cell: tuple[Path, dict[str, Any]]) -> None:
    found = cell[1]
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == [*RIVALS, "random_search", "mix", "generated_best", "search"]
    assert found["image_passes"] == 60 * 300
    over = {name for name, row in rows.items() if row["image_passes"] > found["image_passes"]}
    assert over <= {
        "mix",
        "soup",
        "best_zoo",
        "finetuned_zoo",
    }  # 52 checkpoints are scored, and a soup scores them twice
    for name in ("noise", "samples", "random_latents", "shuffled_samples", "empty_samples", "search"):
        assert rows[name]["evaluations"] == 60
    for name in ("scratch", "finetuned_sample"):
        assert 0.8 * found["image_passes"] < rows[name]["image_passes"] <= found["image_passes"]


def test_rows_are_what_their_names_say(cell: tuple[Path, dict[str, Any]]) -> None:
    rows = {row["name"]: row for row in cell[1]["rows"]}
    val, loss = ({name: row[key] for name, row in rows.items()} for key in ("val_accuracy", "val_loss"))
    assert val["random"] < 0.3 < val["random_latents"] and val["empty_samples"] < val["samples"]
    assert loss["soup"] <= loss["best_zoo"] <= loss["nearest"] and loss["noise"] <= loss["best_zoo"] + 0.05
    assert loss["finetuned_zoo"] <= loss["best_zoo"] + 1e-6 and loss["finetuned_sample"] < loss["random"]
    assert all(rows[name]["val_optimism"] is None for name in ("random", "ridge", "clip_ridge", "scratch"))
    assert rows["search"]["val_optimism_standard_error"] > 0 and rows["samples"]["val_optimism"] > 0


def test_a_cell_that_is_done_is_read_and_one_that_is_not_goes_on(cell: tuple[Path, dict[str, Any]]) -> None:
    folder, found = cell
    made, settings = job(folder, BenchConfig(**BENCH))
    history = folder / NAME / "search" / "history.jsonl"
    before = history.read_bytes()
    assert made(settings) == found
    (folder / NAME / "cell.json").unlink()
    assert timeless(made(settings)) == timeless(found)
    assert history.read_bytes() == before, "the search was not evaluated again"


def write(file: Path, **changes: Any) -> Path:
    few = {"rivals": ["best_zoo", "scratch"], "further": {}}
    file.write_text(yaml.safe_dump({**BENCH, **few, "search": {"evaluations": 20}, **changes}))
    return file


@pytest.mark.slow  # four runs of the whole bench
@pytest.mark.usefixtures("ray_cluster")
def test_a_bench_writes_its_tables_and_takes_in_further_seeds(popgen: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = popgen("bench", write(tmp_path / "a.yaml"), "--out", out, "--json").json
    assert found == json.loads((out / "results.json").read_text())
    assert [(row["row"], row["cells"]) for row in found["rows"]] == [
        (row, 1) for row in ("best_zoo", "scratch", "generated_best", "search")
    ]
    assert found["rows"][0]["difference"]["wins"] == 1 and found["rows"][-1]["difference"] is None
    said = popgen("bench", write(tmp_path / "a.yaml", seeds=[0, 1]), "--resume", out)
    assert "cells: 2 of 2, 0 running, 0 failed" in said.err
    assert "best zoo" in said.out and "wins/ties/losses" in said.out and f"tables: {out}/results.md" in said.out
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert len(rows) == 8 and {row["seed"] for row in rows} == {"0", "1"}
    assert (out / "results.md").read_text().count("\n| ") == 5
    assert read(str(out)).seeds == [0, 1]
    again = run_bench(load_bench(out / "bench.yaml"), resume=str(out))
    assert [row.to_json() for row in again.rows] == json.loads((out / "results.json").read_text())["rows"]
    written = popgen("report", out, "--json").json
    assert written["kind"] == "bench" and written["title"] == "small"
    assert written["verdict"][0].startswith("Over all cells search less ") and "wins" in written["verdict"][0]
    page = (out / "report.html").read_text()
    assert "mlp-s on digits/rotate:45, seed 1: " in page and "popgen bench bench.yaml" in page and str(out) not in page
    text = popgen("report", out, "--format", "md")
    assert (
        text.err.startswith("reporting on the bench in ") and "| best zoo | 6,000 |" in (out / "report.md").read_text()
    )
    with pytest.raises(CannotResume, match=r"search was .*'evaluations': 20.*, is .*'evaluations': 60"):
        resumed(str(out), BenchConfig(**{**BENCH, "rivals": ["best_zoo", "scratch"], "further": {}, "seeds": [0, 1]}))


@pytest.mark.slow  # Ray starts
@pytest.mark.usefixtures("ray_cluster")
def test_a_failed_cell_stops_no_other(popgen: Any, tmp_path: Path) -> None:
    file, out = write(tmp_path / "a.yaml", rivals=["best_zoo"], seeds=[0, 1]), tmp_path / "out"
    (out / "cells" / NAME / "cell.json").mkdir(parents=True)  # it cannot be read
    (out / "bench.yaml").write_text(yaml.safe_dump(load_bench(file).model_dump(mode="json")))
    called = popgen("bench", "--resume", out, code=1)
    assert f"error: 1 cells of the bench failed\n{NAME}: " in called.err
    assert f"popgen bench --resume {out} runs them again" in called.err
    assert "mlp-s" in called.out and list(json.loads((out / "results.json").read_text())["errors"]) == [NAME]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"rivals": ["best_zo"]}, r"there is no rival 'best_zo'; known are random, best_zoo"),
        ({"rivals": ["average", "average"]}, "two rows are called average"),
        ({"further": {"search": {}}}, "two rows are called search"),
        ({"subject": "winner"}, "the subject 'winner' is no row; the rows are random"),
        ({"search": {"finetune": {"epochs": [1]}}}, "finetune cannot be set for search"),
        ({"further": {"long": {"evaluations": 900}}}, "evaluations cannot be set for long"),
        ({"further": {"mix": {"spac": "mix"}}}, "spac"),
        ({"search": {"seed": 3}}, "search.seed is set by the grid"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "bench.yaml"
    file.write_text(yaml.safe_dump({**BENCH, **changes}))
    with pytest.raises(BadInput, match=message):
        load_bench(file)


def test_missing_files_and_names_are_refused(popgen: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no bench 'nothing.yaml'"):
        load_bench("nothing.yaml")
    with pytest.raises(NotFound, match="a bench's folder has a bench.yaml"):
        read(str(tmp_path))
    file = write(tmp_path / "a.yaml", archs=["mlp-x"])
    assert "there is no architecture called 'mlp-x'" in popgen("bench", file, code=3).err
    assert "Give a YAML file such as examples/bench/digits.yaml" in popgen("bench", code=2).err
    assert "leave --out away" in popgen("bench", "--resume", tmp_path, "--out", "x", code=2).err
    twins = [tmp_path / "a b.npz", tmp_path / "a-b.npz"]
    images, labels = np.zeros((60, 8, 8, 1), np.uint8), np.arange(60) % 10
    for path in twins:
        np.savez(path, x=images, y=labels)
    with pytest.raises(BadInput, match="small: two data sets give the folder mlp-s-npz-"):
        plan(BenchConfig(**{**BENCH, "data": [f"npz:{path}" for path in twins]}))


def test_a_dry_run_lists_cells_and_rows(popgen: Any, tmp_path: Path) -> None:
    found = popgen("bench", write(tmp_path / "a.yaml", seeds=[0, 1]), "--dry-run").json
    assert found == {
        "cells": [NAME, NAME.replace("s0", "s1")],
        "rows": ["best_zoo", "scratch", "generated_best", "search"],
        "evaluations": 20,
    }
