"""`popgen sweep`: what it writes is what single searches write, one that fails stops no other, nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from popgen.configs.sweep import SweepConfig
from popgen.errors import CannotResume, NotFound
from popgen.jobs.sweep import plan, read
from popgen.jobs.sweep import sweep as sweep_function

pytestmark = pytest.mark.slow  # whole searches, one after another

Timeless = Callable[[Path], list[dict[str, Any]]]
GRID = {"name": "turned", "archs": ["mlp-s", "cnn-s"], "data": ["digits/rotate:45"], "seeds": [0, 1]}
TURNED = "digits-rotate-45"
MOODY = """
import os
from pathlib import Path
from popgen.data import load_data

def make():
    allowed = Path(__file__).with_suffix(".pid").read_text()
    if allowed not in ("any", str(os.getpid())):
        raise RuntimeError("the disk of this node is full")
    return load_data("digits/rotate:135")
"""


@pytest.fixture(scope="module", autouse=True)
def _ray(ray_cluster: str) -> None:
    """One Ray for all tests of this module."""


@pytest.fixture(scope="module")
def undisturbed(popgen: Any, timeless: Timeless, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """`undisturbed(arch, seed, evaluations)`: the history of that one search, by `popgen search`."""
    folder = tmp_path_factory.mktemp("single")

    def search(arch: str, seed: int, evaluations: int, data: str = "digits/rotate:45") -> list[dict[str, Any]]:
        out = folder / f"{arch}-{seed}-{evaluations}-{len(list(folder.iterdir()))}"
        command = ("search", "--arch", arch, "--data", data, "--seed", seed, "--evaluations", evaluations)
        popgen(*command, "--workers", 0, "--baselines", "none", "--out", out)
        return timeless(out)

    return search


def write(file: Path, **changes: Any) -> Path:
    content = {**GRID, "search": {"evaluations": 30}, **changes}
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture(scope="module")
def swept(popgen: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    """A sweep in which one data set could be loaded here and not in the trials, and what the command left."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "moody_data.py").write_text(MOODY)
    (folder / "moody_data.pid").write_text(str(os.getpid()))
    file = write(folder / "grid.yaml", archs=["cnn-s"], data=["digits/rotate:45", "moody_data:make"])
    sys.path.insert(0, str(folder))
    yield folder, popgen("sweep", file, "--out", folder / "out", "--json", code=1)
    sys.path.remove(str(folder))


def test_each_search_is_what_popgen_search_makes(
    swept: tuple[Path, Any], undisturbed: Callable[..., Any], timeless: Timeless
) -> None:
    folder, called = swept
    rows = called.json["rows"]
    assert json.loads((folder / "out" / "results.json").read_text())["rows"] == rows
    assert [(row["arch"], row["data"], row["done"], row["failed"]) for row in rows] == [
        ("cnn-s", "digits/rotate:45", 2, 0),
        ("cnn-s", "moody_data:make", 0, 2),
    ]
    for row in rows[::2]:
        for one in row["searches"]:
            assert timeless(Path(one["run"])) == undisturbed(row["arch"], one["seed"], 30)
            results = json.loads((Path(one["run"]) / "result.json").read_text())["results"]
            assert one["test_accuracy"] == results[0]["rows"][-1]["test_accuracy"]
            assert Path(one["weights"]).is_file()
        reached = [one["test_accuracy"] for one in row["searches"]]
        assert row["search"] == pytest.approx(statistics.fmean(reached))
        assert row["search_std"] == pytest.approx(statistics.stdev(reached))
        assert 0.7 < row["best_zoo"] < row["generated_best"] <= 1
    assert {path.name for path in (folder / "out").iterdir()} == {"sweep.yaml", "results.json", "runs", "tune"}
    assert read(str(folder / "out")).data == ["digits/rotate:45", "moody_data:make"]


def test_a_failed_search_is_shown_and_stops_no_other(swept: tuple[Path, Any]) -> None:
    folder, called = swept
    row = called.json["rows"][1]
    assert (row["search"], row["search_std"], row["best_zoo"]) == (None, None, None)
    assert row["searches"][0]["error"].splitlines()[0] == "'moody_data:make' failed to make a data set"
    assert "error: 2 of 4 searches failed\ncnn-s on moody_data:make, seed 0: 'moody_data:make' failed" in called.err
    assert f"popgen sweep --resume {folder / 'out'} runs them again" in called.err
    assert "searches: 4 of 4, 0 running, 2 failed" in called.err


def test_a_sweep_has_a_report(popgen: Any, swept: tuple[Path, Any], tmp_path: Path) -> None:
    folder, called = swept
    written = popgen("report", folder / "out", "--out", tmp_path / "report.html", "--json").json
    assert (written["kind"], written["title"]) == ("sweep", "turned")
    assert written["verdict"][0].startswith("Against the strongest rival by validation loss, 2 searches have ")
    text = (tmp_path / "report.html").read_text()
    [done, failed] = called.json["rows"]
    assert (
        f"{done['search']:.3f} ±\N{NO-BREAK SPACE}{done['search_std']:.3f}" in text
        and f"{done['best_zoo']:.3f}" in text
    )
    assert text.count("moody_data:make&#39; failed to make a data set") == failed["failed"] == 2
    assert "the disk of this node is full" in text
    assert f"cnn-s-{TURNED}-s1" in text and str(folder) not in text


@pytest.mark.slow  # six searches, twice
def test_a_broken_sweep_goes_on_to_the_same_end(
    popgen: Any, swept: tuple[Path, Any], undisturbed: Callable[..., Any], timeless: Timeless, tmp_path: Path
) -> None:
    """One history torn in the middle of a line, one run gone, one half made, Tune's record gone, and a longer budget."""
    changes = {"archs": ["cnn-s"], "seeds": [0, 1, 2], "data": ["digits/rotate:45", "moody_data:make"]}
    out = tmp_path / "out"
    popgen("sweep", write(tmp_path / "grid.yaml", **changes), "--out", out, code=1)
    shutil.rmtree(out / "tune")
    torn, gone, half = (out / "runs" / f"cnn-s-{TURNED}-s{seed}" for seed in (0, 1, 2))
    history = (torn / "history.jsonl").read_bytes()
    (torn / "history.jsonl").write_bytes(history[: len(history) // 2])
    (torn / "result.json").unlink()
    shutil.rmtree(gone)
    (half / "history.jsonl").unlink()
    (half / "population-cnn-s.safetensors").write_bytes(b"half")
    (swept[0] / "moody_data.pid").write_text("any")
    try:
        printed = popgen("sweep", "--resume", out, "--evaluations", 34).out
    finally:
        (swept[0] / "moody_data.pid").write_text(str(os.getpid()))
    assert "cnn-s on moody_data:make" in printed and "failed" not in printed and "\u00b1" in printed
    for seed in (0, 1, 2):
        assert timeless(out / "runs" / f"cnn-s-{TURNED}-s{seed}") == undisturbed("cnn-s", seed, 34)
    assert timeless(out / "runs" / "cnn-s-moody_data-make-s1") == undisturbed("cnn-s", 1, 34, "digits/rotate:135")
    before = {file: file.stat().st_mtime_ns for file in (out / "runs").rglob("*.json*")}
    popgen("sweep", "--resume", out)
    assert {file: file.stat().st_mtime_ns for file in (out / "runs").rglob("*.json*")} == before
    assert "36" in popgen("search", "--resume", out / "runs" / f"cnn-s-{TURNED}-s1", "--evaluations", 36).out


@pytest.mark.parametrize(
    ("changes", "code", "pieces"),
    [
        ({"archs": ["mlp-s", "cnn-x"]}, 3, ["'cnn-x'", "cnn-s"]),
        ({"data": ["digits/rotat:45"]}, 3, ["'rotat'", "rotate"]),
        ({"search": {"optimizer": "CMAA"}}, 3, ["CMAA", "CMA"]),
        ({"search": {"generator": "digitz"}}, 3, ["digitz", "digits"]),
        ({"search": {"evaluation": 5}}, 4, ["turned: search: evaluation is not a known key", "nearest known: evaluations"]),
        ({"search": {"evaluations": 0}}, 4, ["turned: search: evaluations has a value that does not fit"]),
        ({"serch": {}}, 4, ["serch is not a known key", "nearest known: search"]),
        ({"archs": []}, 4, ["archs has a value that does not fit"]),
        ({"seeds": []}, 4, ["seeds has a value that does not fit"]),
        ({"name": "a/b"}, 4, ["name has a value that does not fit"]),
        ({"seeds": [0, 1, 0]}, 4, ["seeds lists 0 twice"]),
        ({"archs": ["cnn-s", "cnn-s"]}, 4, ["archs lists cnn-s twice"]),
        ({"search": {"seed": 3}}, 4, ["search.seed is set by the grid", "received 3", "`seeds`"]),
        ({"search": {"archs": ["cnn-s"]}}, 4, ["search.archs is set by the grid", "`archs`"]),
        ({"search": {"address": "auto"}}, 4, ["search.compute.address cannot be set", "Give --address to `popgen sweep`"]),
        ({"search": {"workers": "auto"}}, 4, ["search.compute.workers is 'auto'", "Give a number"]),
        ({"search": {"split": "test"}}, 4, ["test"]),
        ({"data": ["npz:a b.npz", "npz:a-b.npz"]}, 4, ["two data sets give the run folder"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_is_written(
    popgen: Any, here: Path, changes: dict[str, Any], code: int, pieces: list[str]
) -> None:
    if "npz:a b.npz" in changes.get("data", []):
        make_npz(here / "a b.npz", here / "a-b.npz")
    called = popgen("sweep", write(here / "s.yaml", **changes), code=code)
    assert all(piece in called.err for piece in pieces), called.err
    assert "error: " in called.err and not (here / "sweeps").exists()


def test_a_grid_over_two_generators_is_checked_as_it_is_searched(second_generator: Path) -> None:
    """No generator knows both architectures: each search takes the one that knows its own."""
    said: list[str] = []
    grid = SweepConfig(name="two", archs=["my-net", "cnn-s"], data=["digits/rotate:45"], seeds=[0, 1])
    assert [one.archs for one in plan(grid, said.append)] == [["my-net"], ["my-net"], ["cnn-s"], ["cnn-s"]]
    assert said == []
    shutil.rmtree(second_generator)
    with pytest.raises(NotFound, match="my-net"):
        plan(grid)


def make_npz(*files: Path) -> None:
    import numpy as np

    from popgen.data import load_data

    part = load_data("digits").train
    for file in files:
        with file.open("wb") as opened:
            np.savez(opened, x=(part.inputs[:, 0] * 255).numpy().astype(np.uint8), y=part.targets.numpy())


@pytest.mark.parametrize(
    ("arguments", "code", "piece"),
    [
        (("nowhere.yaml",), 3, "there is no sweep 'nowhere.yaml'"),
        (("--resume", "nowhere"), 3, "there is no sweep in 'nowhere'"),
        ((), 2, "--resume FOLDER"),
        (("s.yaml", "--resume", "out"), 2, "one of the two"),
        (("--resume", "out", "--out", "other"), 2, "leave --out away"),
        (("s.yaml", "--evaluations", 40), 2, "search.evaluations"),
        (("s.yaml", "--out", "out"), 4, "out holds a sweep already"),
        (("s.yaml", "--out", "full"), 4, "full is not an empty folder"),
        (("--resume", "out", "--evaluations", 29), 7, "it was begun with 30"),
    ],
)
def test_wrong_use_is_explained(popgen: Any, here: Path, arguments: tuple[Any, ...], code: int, piece: str) -> None:
    write(here / "s.yaml")
    for folder in ("out", "full"):
        (here / folder).mkdir()
        write(here / folder / ("sweep.yaml" if folder == "out" else "notes.yaml"))
    assert piece in popgen("sweep", *arguments, code=code).err


def test_a_changed_grid_is_not_gone_on_with(here: Path) -> None:
    (here / "out").mkdir()
    config = read(str(write(here / "out" / "sweep.yaml").parent))
    with pytest.raises(CannotResume, match=r"seeds was \[0, 1\], is \[0, 1, 2\]"):
        sweep_function(config.model_copy(update={"seeds": [0, 1, 2]}), resume="out", say=lambda _: None)


def test_a_dry_run_lists_the_searches(popgen: Any, here: Path) -> None:
    facts = popgen("sweep", write(here / "s.yaml", search={"workers": 2}), "--dry-run").json
    assert facts["searches"][1] == "mlp-s on digits/rotate:45, seed 1" and len(facts["searches"]) == 4
    assert facts["each"] == {"evaluations": 300, "cpus": 3, "gpus": 0.0}
    assert [path.name for path in here.iterdir()] == ["s.yaml"]


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)], ids=["kill", "int"])
def test_an_interrupted_sweep_ends_as_an_undisturbed_one(
    popgen: Any,
    here: Path,
    undisturbed: Callable[..., Any],
    timeless: Timeless,
    sent: signal.Signals,
    code: int,
) -> None:
    command = [sys.executable, "-m", "popgen", "sweep", str(write(here / "s.yaml", search={"evaluations": 300}))]

    def evaluated() -> int:
        return sum(file.read_bytes().count(b"\n") for file in here.glob("sweeps/turned/runs/*/history.jsonl"))

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as driver:
        give_up = time.monotonic() + 120
        while evaluated() < 700 and driver.poll() is None and time.monotonic() < give_up:
            time.sleep(0.01)
        driver.send_signal(sent)
        _, text = driver.communicate(timeout=60)
    assert (driver.returncode, evaluated() < 1204) == (code, True), text
    if sent == signal.SIGINT:
        assert "continue with: popgen sweep --resume sweeps/turned" in text and "Traceback" not in text
    rows = popgen("sweep", "--resume", "sweeps/turned", "--json").json["rows"]
    assert [(row["done"], row["failed"]) for row in rows] == [(2, 0), (2, 0)]
    for row in rows:
        for one in row["searches"]:
            assert timeless(here / one["run"]) == undisturbed(row["arch"], one["seed"], 300)
