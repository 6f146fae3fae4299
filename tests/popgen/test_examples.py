"""Every script of examples/ runs in a process of its own, from an empty folder, as its header says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SPEC = str(ROOT / "zoo_specs" / "digits.yaml")

# Arguments where the header asks for some (or where fewer of everything will do), and what must stand in the output.
ARGUMENTS = {
    "without_popgen.py": ["{run}/best-cnn-s.safetensors"],
    "own_zoo.py": ["mine"],
    "plot_run.py": ["{run}", "--out", "images"],
    "bench/search_settings.py": ["--arch", "mlp-s", "--settings", "2"],
    "bench/optimizers.py": ["--sizes", "16", "--runs", "1", "--evaluations", "90", "--toys", "ellipsoid"],
    "bench/fairness.py": [
        "--arch",
        "mlp-s",
        "--data",
        "digits/style:invert:0.2",
        "--seeds",
        "1",
        "--evaluations",
        "60",
    ],
    "bench/ranking.py": [
        "--data",
        "digits/rotate:45",
        "--seeds",
        "1",
        "--methods",
        "direct",
        "--most",
        "40",
        "--shares",
        "0.5",
    ],
    "bench/racing.py": ["--arch", "mlp-s", "--seeds", "1", "--evaluations", "80"],
    "bench/few_shot.py": ["--ways", "3", "--shots", "1", "--episodes", "1"],
    "bench/unseen_archs.py": [
        "--arch",
        "cnn-s/channels:12-16",
        "--data",
        "digits/rotate:45",
        "--seeds",
        "1",
        "--epochs",
        "0,1",
    ],
    "bench/ablation.py": ["--scale", "0.002", "--rows", "no tuning,raw weights", "--spec", SPEC],
    "bench/training.py": ["--steps", "2", "--spec", SPEC],
    "bench/start.py": ["--repeat", "1"],
    "bench/outside.py": ["--data", "rotate:45", "--evaluations", "30", "--epochs", "1"],
    "bench/alignment.py": ["--digits"],
    "bench/precision.py": [
        *("--archs", "cnn-s", "--images", "60", "--repeat", "1"),
        *("--ranks", "--arch", "mlp-s", "--data", "digits/rotate:45", "--candidates", "12"),
    ],
    "bench/fitness.py": ["--archs", "resnet20", "--count", "100", "--repeat", "1"],
    "bench/shifts.py": [
        "--generator",
        "digits",
        "--zoo",
        "digits",
        "--arch",
        "mlp-s",
        "--data",
        "digits/rotate:45",
        "--seeds",
        "1",
    ],
    # tests/popgen/jobs/searching/test_language_layers.py runs it with a tiny model.
    "bench/language_layers.py": ["--help"],
    "bench/text_adapters.py": ["--help"],  # tests/popgen/jobs/test_text_adapters.py runs it with a tiny base
    "bench/large_zoo.py": ["--count", "60"],
    "bench/merging.py": ["--help"],  # tests/popgen/jobs/searching/test_search_from_merges.py runs it with a small zoo
    "bench/few_labels.py": ["--help"],  # tests/popgen/jobs/searching/test_directions.py runs it with a small generator
    "bench/archive.py": ["--first", "2", "--images", "60", "--test"],
    "bench/adapt.py": ["--help"],  # tests/popgen/jobs/test_adapt.py runs it with a generator of shifts
    "recipes/clip_tiny_probe.py": [],
    "recipes/clip_tiny.py": ["--help"],  # takes minutes, and its result is checked by the probe
    "recipes/text_tiny.py": ["--help"],  # needs its teacher's folder
}
PRINTED = {
    "find_weights.py": r"search +300 evaluations, test accuracy 0\.[89]",
    "population.py": r"(?s)validation accuracy 0\.[6-9].*retrieved cnn-s/digits/rotate:30/s\d: test accuracy 0\.9",
    "without_popgen.py": r"tensor\(\[\[",
    "bench/optimizers.py": r"RandomSearch",
    "bench/overhead.py": r"two workers",
    "bench/large_zoo.py": r"(?s)zoo verify` \| \d.*nearest of 60 .*codes, 32 numbers each \| 0\.\d",
    "bench/ranking.py": r"(?s)names: mean regret over 1.*\| exhaustive \| \d+\.\d\d \|.*\| direct \| \d+\.\d\d \|.*features: ",
    "bench/racing.py": r"1/8, 1/4, 1/2 \| 80 \|",
    "bench/few_shot.py": r"(?s)3 ways, 1 shots, 4 episodes.*generated, own rows +[89]\d",
    "bench/ablation.py": r"no tuning +0\.\d+ .*\s+raw weights +0\.\d+",
    "bench/unseen_archs.py": r"(?s)from cnn-s: widened.*generated +0\.\d+ +0\.\d+.*random +0\.\d+",
    "bench/training.py": r"(?s)tuning +\d+\.\d +10000 .*one process.*([0-9a-f]{8})\s+two workers.*\1\s+read from files.*\1\s+saved at every step.*\1",
    "bench/alignment.py": r"resnet-s +0\.9\d+ 0\.9\d+ \| ",
    "bench/fitness.py": r"\| resnet20 \| stage 3 \| \d+ \| [2-9]\.\d+ \|",
    "bench/precision.py": r"(?s)\| cnn-s \| bfloat16 \| \d+ \|.*\| 1 \| 12 \|.*\| 0\.3 \| 12 \| [\d.]+, [\d.]+ \| 0\.9",
    "bench/shifts.py": r"digits/rotate:45: .*best zoo 0\.\d+, average 0\.\d+.*generated 0\.9",
    "bench/start.py": r"(?s)import torch.*unknown architecture.*search: first evaluation \| \d+\.\d\d \|",
    "bench/retrieval.py": r"(?s)208 training checkpoints.*int8\+zstd .*104 held-out checkpoints.*decoder \+ codes",
    "bench/archive.py": r"(?s)archive, lossless.* test .* 1-bit .*best single codec within 0\.5 points: 0\.",
    "bench/outside.py": r"\| digits/rotate:45 \| 0\.\d+ \| 0\.\d+ \| no \| no \| 0\.\d+ \| 0\.9",
    "plot_run.py": r"run-light\.svg\n.*run-dark\.svg",
    "search_alone.py": r"best of 2000 evaluations 0\.[01]",
    "own_zoo.py": r"test accuracy 0\.\d+",
}
SLOW = {
    "own_zoo.py",
    "bench/archive.py",
    "search_alone.py",
    "bench/fitness.py",
    "bench/precision.py",
    "find_weights.py",  # the documents' tests run such a search, too
    "population.py",
    "bench/alignment.py",
    "bench/language_layers.py",  # its imports take seconds, and another slow test runs it
    "bench/shifts.py",
    "bench/unseen_archs.py",
    "bench/training.py",
    "bench/ablation.py",
    "bench/few_shot.py",
    "bench/retrieval.py",
    "bench/fairness.py",
    "bench/overhead.py",
    "bench/large_zoo.py",
    "bench/ranking.py",
    "bench/racing.py",
    "bench/search_settings.py",
    "bench/start.py",
    "bench/outside.py",
    "bench/adapt.py",
    "bench/optimizers.py",
    "bench/text_adapters.py",
    "bench/few_labels.py",
    *(f"recipes/{name}.py" for name in ("clip_tiny", "clip_tiny_probe")),
}
SLOW |= {"recipes/text_tiny.py"}
NO_SCRIPT = {"recipes/glyphs.py"}  # a module of the recipes


def scripts() -> list[object]:
    names = sorted(str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.py"))
    marks = {name: [pytest.mark.slow] if name in SLOW else [] for name in names}
    return [pytest.param(name, marks=marks[name]) for name in names if name not in NO_SCRIPT]


def test_the_tables_name_scripts_that_exist() -> None:
    assert [name for name in (*ARGUMENTS, *PRINTED, *SLOW, *NO_SCRIPT) if not (EXAMPLES / name).is_file()] == []


@pytest.mark.parametrize("name", scripts())
def test_an_example_runs(name: str, tmp_path: Path, run_folder: tuple[Path, object]) -> None:
    arguments = [part.format(run=run_folder[0]) for part in ARGUMENTS.get(name, [])]
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(PRINTED.get(name, r"\S"), done.stdout), done.stdout
    assert "Traceback" not in done.stderr


def plot(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / "plot_run.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_picture_shows_the_rows_of_its_run(tmp_path: Path, run_folder: tuple[Path, dict[str, Any]]) -> None:
    run, printed = run_folder
    for name in ("first", "second"):
        assert plot(run, "--out", tmp_path / name, "--arch", "mlp-s").returncode == 0
    for name in ("run-light.svg", "run-dark.svg"):
        svg = (tmp_path / "first" / name).read_text()
        shown = re.findall(r">([^<>]+)</text>", svg)
        for row in printed["results"][1]["rows"]:
            accuracy = row["test_score"] if "test_score" in row else row["test_accuracy"]
            assert {row["name"].replace("_", " "), f"{accuracy:.3f}"} <= set(shown)
        assert "mlp-s on digits/rotate:45" in shown
        assert svg == (tmp_path / "second" / name).read_text(), "the same run gives the same bytes"
        assert len(svg) < 60_000
    assert (tmp_path / "first" / "run-light.svg").read_text() != (tmp_path / "first" / "run-dark.svg").read_text()


def test_a_picture_needs_a_run(tmp_path: Path, run_folder: tuple[Path, object]) -> None:
    done = plot(tmp_path)
    assert done.returncode == 1 and f"there is no run in {tmp_path}" in done.stderr
    done = plot(run_folder[0], "--arch", "cnn-m")
    assert done.returncode == 1 and "no evaluations of cnn-m" in done.stderr and "cnn-s, mlp-s" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_is_not_finished_has_a_picture_without_rivals(
    tmp_path: Path, run_folder: tuple[Path, object]
) -> None:
    for name in ("config.yaml", "history.jsonl"):
        shutil.copy(run_folder[0] / name, tmp_path)
    with open(tmp_path / "history.jsonl", "a") as file:
        file.write('{"v":2,"search":"cnn-s","ind')  # torn by a crash
    done = plot(tmp_path, "--out", tmp_path)
    assert done.returncode == 0 and "not finished" in done.stderr
    assert "best zoo" not in (tmp_path / "run-light.svg").read_text()


@pytest.mark.parametrize("name", sorted(str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.py")))
def test_an_example_says_how_it_is_run(name: str) -> None:
    text = (EXAMPLES / name).read_text()
    assert text.startswith('"""')
    header = text.split('"""')[1]
    assert name in NO_SCRIPT or f"python examples/{name}" in header, "the command stands in the header"
    assert Path(name).name != "search.py", "a script's folder comes first on its path: it would hide the package search"
