"""`popgen report`: its figures are the run's, it says what is not there, runs no foreign code, and replaces only reports."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file

from popgen.errors import BadInput, BrokenFile, NotFound
from popgen.jobs.report import report
from popgen.jobs.reporting.figures import MOST_DOTS, _shades, _thinned
from popgen.jobs.reporting.predictions import wilson
from popgen.jobs.reporting.rivals import Score, verdict
from popgen.jobs.reporting.run import run_report
from popgen.jobs.reporting.trace import principal_components, read_trace
from popgen.jobs.searching.folder import RunFolder
from popgen.report import Chart, Code, Confusion, Paragraph, Report, Section, Table
from search import History
from search.errors import BrokenRecord, RunLocked

Edit = Callable[[Path, Callable[[dict[str, Any]], object]], None]


@pytest.fixture
def run(run_folder: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """A copy of a finished search for cnn-s and mlp-s, to be damaged or changed."""
    return Path(shutil.copytree(run_folder[0], tmp_path / "run"))


def part(content: Report, arch: str, title: str) -> Section:
    """A section of one architecture of several."""
    [section] = [one for one in content.sections if one.title == arch]
    [found] = [one for one in section.parts if one.title == title]
    return found


def said(section: Section) -> str:
    return "\n".join(block.text for block in section.blocks if isinstance(block, Paragraph | Code))


def edit_config(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = yaml.safe_load((run / "config.yaml").read_text())
    change(content)
    (run / "config.yaml").write_text(yaml.safe_dump(content))


def edit_history(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    for line in lines:
        if "header" not in line:
            change(line)
    (run / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_its_figures_are_those_of_the_run(run_folder: tuple[Path, dict[str, Any]]) -> None:
    folder, printed = run_folder
    content = run_report(str(folder))
    assert content.title == "cnn-s, mlp-s on digits/rotate:45" and len(content.verdict) == 2
    for result in printed["results"]:
        arch, rows = result["arch"], result["rows"]
        [table] = part(content, arch, "Rivals").blocks
        assert isinstance(table, Table) and table.marks is not None
        assert [row[0] for row in table.rows] == [row["name"] for row in rows]
        assert [row[1] for row in table.rows] == [str(row["evaluations"]) for row in rows]
        for shown, row in zip(table.rows, rows, strict=True):
            optimism = row["val_optimism"]
            assert shown[3] == ("" if optimism is None else f"{optimism:.3f}".replace("-0.000", "0.000"))
            assert shown[4] == f"{row['test_accuracy']:.3f} ±\N{NO-BREAK SPACE}{row['test_standard_error']:.3f}"
        own = next(row for row in rows if row["name"] == "search")
        [curve] = part(content, arch, "Best so far").blocks
        assert isinstance(curve, Chart)
        line = curve.series[-1]
        assert line.points[-1] == (60, pytest.approx(own["val_loss"], abs=1e-5))
        levels = {one.name: one.points[0] for one in curve.series[:-1]}
        assert levels == {row["name"]: (row["evaluations"], row["val_loss"]) for row in rows if row is not own}
        matrix = next(one for one in part(content, arch, "Classes").blocks if isinstance(one, Confusion))
        right = sum(row[i] for i, row in enumerate(matrix.counts))
        assert sum(map(sum, matrix.counts)) == 300 and right / 300 == pytest.approx(own["val_accuracy"])
        assert f"{300 - right} errors" in matrix.alternative
        [where] = part(content, arch, "Population").blocks
        assert isinstance(where, Chart) and sum(len(one.points) for one in where.series[:-1]) == 60
        assert said(part(content, arch, "Failures")) == "No candidate failed."
    assert "popgen search --arch cnn-s,mlp-s --data digits/rotate:45 --evaluations 60" in said(content.sections[-1])


def test_the_same_run_gives_the_same_small_file(run: Path) -> None:
    first, text = report(str(run)), (run / "report.html").read_text()
    assert first.path == str(run / "report.html") and first.size == len(text.encode()) < 300_000
    assert report(str(run)) == first and (run / "report.html").read_text() == text
    moved = run.rename(run.with_name("moved"))
    assert report(str(moved)).size == first.size and (moved / "report.html").read_text() == text
    assert str(run.parent) not in text, "it says nothing of this machine"


def test_search_writes_it_at_once(popgen: Any, here: Path) -> None:
    search = (
        "search",
        "--arch",
        "mlp-s",
        "--data",
        "digits/rotate:45",
        "--evaluations",
        30,
        "--baselines",
        "none",
        "--workers",
        0,
    )
    called = popgen(*search, "--report", "--out", "run", "--objectives", "loss,calibration_error")
    assert called.out.splitlines()[-1] == "report: run/report.html"
    text = (here / "run" / "report.html").read_text()
    front = json.loads((here / "run" / "result.json").read_text())["results"][0]["details"]["front"]
    assert "Pareto front" in text and f"The front has {len(front)} of 30 candidates" in text
    recorded = yaml.safe_load((here / "run" / "config.yaml").read_text())["recorded"]
    assert f"torch {torch.__version__}" in text and recorded["versions"]["torch"] == str(torch.__version__)
    resumed = popgen("search", "--resume", "run", "--evaluations", 42, "--report", "--json").json
    assert resumed["report"] == "run/report.html"
    assert "budget 42" in (here / "run" / "report.html").read_text()


def test_markdown_stands_beside_its_charts(popgen: Any, run: Path) -> None:
    printed = popgen("report", run, "--format", "md").out
    assert printed.splitlines()[-1] == f"report: {run / 'report.md'}"
    links = re.findall(r"\]\((\S+\.svg)\)", (run / "report.md").read_text())
    assert len(links) == 4 and all((run / link).is_file() for link in links)


def test_a_run_that_is_not_finished(run: Path) -> None:
    for name in ("result.json", "best-cnn-s.safetensors", "best-mlp-s.safetensors"):
        (run / name).unlink()
    lines = (run / "history.jsonl").read_text().splitlines(keepends=True)
    (run / "history.jsonl").write_text("".join(lines[:41]) + '{"v":2,"search":"cnn-s","ind')  # torn by a crash
    content = run_report(str(run))
    assert content.verdict[0].startswith(
        "The search of cnn-s is not finished: 40 of 60 evaluations are made. The lowest"
    )
    assert content.verdict[1] == "The search of mlp-s is not finished: 0 of 60 evaluations are made."
    assert "made when the search is finished" in said(part(content, "cnn-s", "Rivals"))
    assert isinstance(part(content, "cnn-s", "Best so far").blocks[0], Chart)
    assert said(part(content, "mlp-s", "Best so far")) == "No candidate was scored."
    assert "there is no best-cnn-s.safetensors" in said(part(content, "cnn-s", "Classes"))


def test_a_table_of_an_earlier_session_is_marked(run: Path, edit_json: Edit) -> None:
    edit_json(run / "result.json", lambda content: content["results"][0]["details"].update(looks=40))
    content = run_report(str(run))
    [remark, table] = part(content, "cnn-s", "Rivals").blocks
    assert isinstance(remark, Paragraph) and remark.is_remark and "earlier session" in remark.text
    assert isinstance(table, Table) and len(part(content, "mlp-s", "Rivals").blocks) == 1


def test_failures_are_counted_and_shown(run: Path) -> None:
    def fail(line: dict[str, Any]) -> None:
        if line["search"] == "mlp-s" or line["index"] in (30, 31, 40):
            error = "out of memory" if line["index"] == 40 else "<img src=x onerror=alert(1)>"
            line.update(loss=None, error=error)

    edit_history(run, fail)
    content = run_report(str(run))
    assert "3 of 60 evaluations failed" in said(part(content, "cnn-s", "Failures"))
    assert said(part(content, "cnn-s", "Failures")).splitlines()[1:] == [
        "2 times, first at evaluation 30:",
        "<img src=x onerror=alert(1)>",
        "1 time, first at evaluation 40:",
        "out of memory",
    ]
    assert content.verdict[1] == "Every one of the 60 candidates for mlp-s failed."
    report(str(run))
    text = (run / "report.html").read_text()
    assert "&lt;img src=x onerror=alert(1)&gt;" in text and "<img" not in text


def test_names_of_a_run_stay_text(run: Path, edit_json: Edit) -> None:
    name = "npz:<script>alert(1)</script>.npz"
    edit_config(run, lambda content: content["search"].update(data=name))
    edit_config(run, lambda content: content["recorded"].update(data_remarks=["<b>read</b>", 7], versions={"<i>": "1"}))
    edit_json(run / "result.json", lambda content: content["results"][0]["rows"][0].update(name="</td><script>"))
    content = run_report(str(run))
    assert "is not on this machine: a report downloads nothing" in said(part(content, "cnn-s", "Classes"))
    report(str(run))
    text = (run / "report.html").read_text()
    assert "<script" not in text and "<b>read" not in text and "<i>" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_code_that_a_run_names_is_not_run(run: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data set's function, in the current folder or elsewhere, and the builder that a file of weights names."""
    (here / "lib").mkdir()
    monkeypatch.syspath_prepend(here / "lib")
    for file in (here / "evil.py", here / "lib" / "evil_elsewhere.py"):
        file.write_text("from pathlib import Path\nPath('ran').touch()\ndef make(**_): ...\n")
    for name in ("evil:make", "evil_elsewhere:make"):
        edit_config(run, lambda content, name=name: content["search"].update(data=name))  # type: ignore[misc]
        assert f"{name} is code from outside" in said(part(run_report(str(run)), "cnn-s", "Classes"))
    edit_config(run, lambda content: content["search"].update(data="digits/rotate:45"))
    rewrite(run / "best-cnn-s.safetensors", builder="evil:make")
    assert "evil:make is code from outside" in said(part(run_report(str(run)), "cnn-s", "Classes"))
    assert any(isinstance(one, Confusion) for one in part(run_report(str(run)), "mlp-s", "Classes").blocks)
    assert not (here / "ran").exists()


def rewrite(weights: Path, **changes: object) -> None:
    """Change fields of the architecture in the metadata of a file of weights."""
    with safe_open(weights, framework="pt") as file:
        card = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    card["arch_config"] = json.dumps({**json.loads(card["arch_config"]), **changes})
    save_file(state, weights, card)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda run: edit_config(run, lambda c: c["recorded"].update(data_sha256="0" * 64)), "is not what it was"),
        (lambda run: edit_config(run, lambda c: c["search"].update(split="test")), "the split 'test'"),
        (lambda run: edit_config(run, lambda c: c["search"].update(data="cifar10")), "not on this machine"),
        (lambda run: (run / "best-cnn-s.safetensors").write_bytes(b"half"), "cannot be read"),
        (lambda run: rewrite(run / "best-cnn-s.safetensors", options={"channels": [4, 4]}), "does not fit its own"),
        (lambda run: rewrite(run / "best-cnn-s.safetensors", nosuch=1), "cannot be read"),
    ],
    ids=["changed data", "test split", "data not here", "torn weights", "other shapes", "unknown field"],
)
def test_predictions_that_are_not_there_are_explained(run: Path, change: Callable[[Path], object], why: str) -> None:
    change(run)
    edit_config(run, lambda content: content["search"].update(data_dir=str(run)))
    text = said(part(run_report(str(run)), "cnn-s", "Classes"))
    assert text.startswith("The predictions of the best network are not there: ") and why in text


@pytest.mark.parametrize(
    ("file", "text", "error"),
    [
        ("result.json", "[", BrokenFile),
        ("result.json", '{"results": [{"arch": "cnn-s", "rows": [7], "details": {}}]}', BrokenFile),
        ("result.json", '{"results": [{"arch": "cnn-s", "rows": [{"name": "a"}], "details": {}}]}', BrokenFile),
        (
            "result.json",
            '{"results": [{"arch": "cnn-s", "rows": [{"name": "a", "evaluations": 1, "val_loss": "x"}], "details": {}}]}',
            BrokenFile,
        ),
        ("config.yaml", "search: [", BrokenFile),
        ("history.jsonl", '{"v": 2}\n', BrokenRecord),
        ("population-cnn-s.safetensors", "half", BrokenRecord),
    ],
)
def test_broken_files_are_refused(run: Path, file: str, text: str, error: type[Exception]) -> None:
    (run / file).write_text(text)
    with pytest.raises(error):
        report(str(run))
    assert not (run / "report.html").exists()


def test_odd_details_do_not_break_it(run: Path, edit_json: Edit) -> None:
    odd = {
        "validation_images": "<b>",
        "contamination": {"shared": [1, {"data": "<s>"}], "not_checked": 7},
        "front": None,
    }
    edit_json(run / "result.json", lambda content: content["results"][0].update(details=odd))
    edit_config(run, lambda content: content.update(recorded=[1]))
    report(str(run))
    assert "&lt;s&gt;" in (run / "report.html").read_text()


def test_a_run_that_is_being_written_is_refused(run: Path) -> None:
    with History(run / "history.jsonl", "cnn-s"), pytest.raises(RunLocked, match="being written"):
        report(str(run))


def test_only_reports_are_replaced(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "thesis.html"
    other.write_text("<p>years of work</p>")
    with pytest.raises(BadInput, match=r"thesis.html is not a report of popgen\nit would be replaced\nGive another"):
        report(str(run), str(other))
    with pytest.raises(BadInput, match="is not a report"):
        report(str(run), str(tmp_path))
    assert other.read_text() == "<p>years of work</p>"
    new = report(str(run), str(tmp_path / "new" / "a.html"))
    assert report(str(run), str(tmp_path / "new" / "a.html")) == new
    with pytest.raises(BadInput, match="is not a report"):
        report(str(run), new.path, "md")


def test_a_folder_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(
        NotFound,
        match=r"nothing to report on in .*\nthe folder of a search, sweep, bench or audit has one of config.yaml",
    ):
        report(str(tmp_path))


def test_a_sweep_that_is_not_finished(tmp_path: Path) -> None:
    content = {"name": "grid", "archs": ["<b>"], "data": ["digits"], "search": {"evaluations": 30}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content))
    assert report(str(tmp_path)).verdict == ("The sweep grid is not finished: it has no results.json yet.",)
    assert "<b>" not in (tmp_path / "report.html").read_text().replace("<b>0</b>", "").replace("<b>1 × 1</b>", "")
    (tmp_path / "results.json").write_text('{"rows": [{"arch": "a"}]}')
    with pytest.raises(BrokenFile, match="results.json cannot be read"):
        report(str(tmp_path))


def row(name: str, test: float, val_loss: float, error: float | None = 0.01, val: float = 0.9) -> Score:
    return Score(name, 10, val, test, error, error, val_loss, "accuracy", {})


@pytest.mark.parametrize(
    ("scores", "first", "more"),
    [
        ([row("search", 0.9, 0.1)], "no rivals to compare", []),
        ([row("average", 0.8, 0.2), row("search", 0.9, 0.1)], "10.0 points above average, the strongest", ["7.1 standard errors"]),
        ([row("average", 0.95, 0.2), row("search", 0.9, 0.1)], "5.0 points below average", ["3.5 standard errors"]),
        # sqrt(2) * 0.01 * 2 is 2.83 points
        ([row("average", 0.875, 0.2), row("search", 0.9, 0.1)], "no clear difference from average", []),
        (
            [row("random", 0.95, 3.0), row("generated_best", 0.9, 0.1), row("average", 0.8, 0.2), row("search", 0.9, 0.05, val=0.99)],
            "no clear difference from generated_best, the strongest rival by validation loss",
            ["need no generator the strongest is average: 0.800", "10.0 points above it", "Higher in the test column: random", "flattered"],
        ),
        ([row("empty", 0.99, 0.01), row("average", 0.8, 0.2), row("search", 0.9, 0.1)], "points above average", []),
        ([row("average", 0.8, 0.2, None), row("search", 0.9, 0.1, None)], "above average", ["error of the difference is not known"]),
    ],
)  # fmt: skip
def test_the_verdict_follows_from_the_errors(scores: list[Score], first: str, more: list[str]) -> None:
    lines = list(verdict("cnn-s", scores))
    assert first in lines[0]
    assert [piece for piece in more if piece not in " ".join(lines)] == []


def test_principal_components_are_those_of_the_covariance() -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 5)) * [5, 3, 1, 0.5, 0.1]
    places, explained = principal_components(vectors)
    values = np.sort(np.linalg.eigvalsh(np.cov(vectors.T)))[::-1]
    assert explained == pytest.approx(values[:2] / values.sum())
    assert places.var(axis=0, ddof=1) == pytest.approx(values[:2])
    assert np.cov(places.T)[0, 1] == pytest.approx(0, abs=1e-9)
    one = np.ones((3, 1))
    assert principal_components(one)[0].tolist() == [[0, 0]] * 3 and principal_components(one)[1] == (0, 0)


def test_candidates_stand_where_the_search_had_them(run: Path) -> None:
    trace = read_trace(RunFolder(run), "cnn-s")
    assert trace.places is not None and len(trace.places) == len(trace.placed) == 60
    losses = [one.loss for one in trace.placed]
    assert losses == sorted(losses, key=float), "best first"
    by_index = {one.index: place for one, place in zip(trace.placed, trace.places, strict=True)}
    seeds = np.array([by_index[i] for i in range(1, 25)])
    assert by_index[0] == pytest.approx(seeds.mean(axis=0)), "the first evaluation is that of the seeds' mean"


def test_wilson_interval_solves_its_equation() -> None:
    """Its ends are the shares p from which the observed one is 1.96 standard errors away."""
    for right, of in ((27, 30), (1, 30), (500, 1000)):
        for end in wilson(right, of):
            assert abs(right / of - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / of))


def test_many_candidates_are_thinned_and_shades_are_even() -> None:
    kept = _thinned(10_000, 4321)
    assert len(kept) <= MOST_DOTS and 4321 in kept and kept[0] == 0 and kept[-1] == 9999
    shades = _shades(np.arange(60)[::-1].astype(float))
    assert shades == sorted(shades) and [shades.count(i) for i in range(6)] == [10] * 6
