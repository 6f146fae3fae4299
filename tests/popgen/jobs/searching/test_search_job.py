"""`popgen search`: what it writes, what it prints, and that both are true."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

import popgen as library
from popgen.archs import arch_config, build, with_classes
from popgen.configs.search import SearchConfig
from popgen.configs.sweep import SweepConfig
from popgen.data import Part, load_data
from popgen.errors import BadInput, CannotResume, NotFound

DATA = ("--data", "digits/rotate:45")
QUICK = ("--workers", 0, "--baselines", "none", "--json")
ROWS = ["random", "best_zoo", "average", "ridge", "shuffled", "empty", "generated_mean", "generated_best", "search"]
PLAIN = {
    "mlp-s": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
    "cnn-s": lambda: nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    ),
}


@torch.no_grad()
def correct(net: nn.Module, part: Part) -> int:
    return int((net.eval()(part.inputs).argmax(1) == part.targets).sum())


def rows_of(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in result["rows"]}


def save_npz(file: Path, parts: dict[str, Part], classes: list[str]) -> str:
    """Splits as uint8 arrays; returns the data set's name."""
    arrays: dict[str, Any] = {"classes": np.array(classes)}
    for split, part in parts.items():
        arrays[f"x_{split}"] = (part.inputs[:, 0] * 255).round().to(torch.uint8).numpy()
        arrays[f"y_{split}"] = part.targets.numpy()
    np.savez_compressed(file, **arrays)
    return f"npz:{file}"


def test_a_run_folder_holds_its_files(run_folder: tuple[Path, dict[str, Any]]) -> None:
    folder, printed = run_folder
    names = {path.name for path in folder.iterdir() if path.suffix != ".lock"}
    weights = {f"{kind}-{arch}.safetensors" for kind in ("best", "population") for arch in ("cnn-s", "mlp-s")}
    assert names == {"README.md", "config.yaml", "history.jsonl", "result.json", *weights}
    written = json.loads((folder / "result.json").read_text())
    assert written["results"] == printed["results"]
    assert yaml.safe_load((folder / "config.yaml").read_text())["search"]["archs"] == ["cnn-s", "mlp-s"]


def test_results_have_their_stable_keys(run_folder: tuple[Path, dict[str, Any]]) -> None:
    folder, printed = run_folder
    assert [result["arch"] for result in printed["results"]] == ["cnn-s", "mlp-s"]
    for result in printed["results"]:
        assert {"arch", "data", "run", "weights", "rows"} <= result.keys()
        assert (result["data"], result["run"]) == ("digits/rotate:45", str(folder))
        assert Path(result["weights"]) == folder / f"best-{result['arch']}.safetensors"
        assert [row["name"] for row in result["rows"]] == ROWS
        for row in result["rows"]:
            assert {"name", "evaluations", "val_accuracy", "test_accuracy"} <= row.keys()
            assert row["evaluations"] >= 1 and 0 <= row["val_accuracy"] <= 1 and 0 <= row["test_accuracy"] <= 1


@pytest.mark.parametrize("arch", PLAIN)
@pytest.mark.parametrize("source", ["popgen", "plain torch"])
def test_weights_load_and_score_what_is_reported(
    run_folder: tuple[Path, dict[str, Any]], arch: str, source: str
) -> None:
    result = next(r for r in run_folder[1]["results"] if r["arch"] == arch)
    net = build(arch) if source == "popgen" else PLAIN[arch]()
    net.load_state_dict(load_file(result["weights"]), strict=True)
    data, row = load_data("digits/rotate:45"), rows_of(result)["search"]
    assert correct(net, data.val) == pytest.approx(row["val_accuracy"] * len(data.val), abs=1e-3)
    assert correct(net, data.test) == pytest.approx(row["test_accuracy"] * len(data.test), abs=1e-3)
    with safe_open(result["weights"], framework="pt") as file:
        assert file.metadata()["arch"] == arch and file.metadata()["data"] == "digits/rotate:45"


def test_the_search_beats_its_own_seeds(
    run_folder: tuple[Path, dict[str, Any]], timeless: Callable[[Path], list[dict[str, Any]]]
) -> None:
    folder, printed = run_folder
    lines = timeless(folder)
    for result in printed["results"]:
        records = [line for line in lines if line["search"] == result["arch"] and "index" in line]
        row = rows_of(result)
        best = min(records, key=lambda record: record["loss"])
        assert row["search"]["val_loss"] == pytest.approx(best["metrics"]["unpenalised_loss"], abs=1e-6)
        assert row["search"]["val_loss"] <= row["generated_best"]["val_loss"] <= row["generated_mean"]["val_loss"]
        assert row["search"]["test_accuracy"] > row["random"]["test_accuracy"] + 0.5


@pytest.mark.parametrize("evaluations", [1, 7, 25, 33])
def test_the_budget_is_never_overshot(
    popgen: Any, here: Path, timeless: Callable[[Path], list[dict[str, Any]]], evaluations: int
) -> None:
    called = popgen("search", "--arch", "mlp-s", *DATA, *QUICK, "--evaluations", evaluations, "--out", "run")
    records = timeless(here / "run")[1:]
    assert [record["index"] for record in records] == list(range(evaluations))
    row = rows_of(called.results[0])
    assert row["search"]["evaluations"] == evaluations
    generated = sum(record["origin"] == "generated" for record in records)
    assert generated == row.get("generated_best", {"evaluations": 0})["evaluations"] <= 16
    if evaluations > 25:  # 16 generated, 8 experts, their mean
        assert [record["phase"] for record in records[:25]] == ["seed"] * 25
        assert {record["phase"] for record in records[25:]}.isdisjoint({"seed"})


@pytest.mark.usefixtures("here")
def test_seconds_stop_a_search(popgen: Any) -> None:
    called = popgen("search", "--arch", "mlp-s", *DATA, *QUICK, "--evaluations", 10**6, "--seconds", 0.5)
    result = called.results[0]
    assert result["details"]["stopped_by"] == "seconds"
    assert 0.5 <= result["details"]["seconds"] < 5
    assert 1 <= rows_of(result)["search"]["evaluations"] < 10**6


@pytest.mark.usefixtures("here")
def test_baselines(popgen: Any) -> None:
    command = ("search", "--arch", "mlp-s", *DATA, "--workers", 0, "--evaluations", 30, "--json")
    found = {kind: rows_of(popgen(*command, "--baselines", kind).results[0]) for kind in ("none", "standard", "all")}
    assert list(found["none"]) == ["generated_mean", "generated_best", "search"]
    assert list(found["standard"]) == ROWS
    assert set(found["all"]) == {*ROWS, "noise"}
    assert found["all"]["noise"]["evaluations"] == found["all"]["search"]["evaluations"] == 30
    assert found["none"]["search"] == found["standard"]["search"] == found["all"]["search"]


def test_the_default_folder_is_never_reused(popgen: Any, here: Path) -> None:
    command = ("search", "--arch", "mlp-s", *DATA, *QUICK, "--evaluations", 2)
    runs = [popgen(*command).results[0]["run"] for _ in range(3)]
    assert runs == [f"runs/mlp-s-digits-rotate-45-s0{end}" for end in ("", "-2", "-3")]
    assert all((here / run / "result.json").is_file() for run in runs)


def test_dry_run_writes_nothing(popgen: Any, here: Path) -> None:
    called = popgen("search", "--arch", "cnn-s,mlp-s", *DATA, "--dry-run", "--evaluations", 77)
    facts = called.json
    assert facts["archs"]["mlp-s"] == {"parameters": 4810, "head": "keep"}
    assert facts["images"] == {"train": 1000, "val": 300, "test": 497}
    assert (facts["zoo"], facts["evaluations"]) == ("digits", 77)
    assert list(here.iterdir()) == []


def test_the_table_shows_every_row(popgen: Any, here: Path) -> None:
    called = popgen("search", "--arch", "mlp-s", *DATA, "--workers", 0, "--evaluations", 30, "--out", "run")
    assert all(name in called.out for name in ROWS)
    assert "mlp-s on digits/rotate:45" in called.out and "weights: run/best-mlp-s.safetensors" in called.out
    assert "run folder: run" in called.err
    shown = rows_of(json.loads((here / "run" / "result.json").read_text())["results"][0])["search"]
    last = next(line for line in called.out.splitlines() if "search" in line)
    assert f"{shown['val_accuracy']:.3f}" in last and f"{shown['test_accuracy']:.3f}" in last


def test_heads_of_other_class_counts_are_mapped_by_name(popgen: Any, here: Path) -> None:
    turned, keep = load_data("digits/rotate:45"), torch.tensor([7, 1, 4])
    parts = {}
    for split in ("train", "val", "test"):
        part: Part = getattr(turned, split)
        rows = torch.isin(part.targets, keep)
        labels = (part.targets[rows, None] == keep).int().argmax(1)
        parts[split] = Part(part.inputs[rows], labels)
    name = save_npz(here / "three.npz", parts, ["7", "1", "4"])
    called = popgen("search", "--arch", "mlp-s", "--data", name, *QUICK, "--evaluations", 40, "--out", "run")
    result = called.results[0]
    assert result["details"]["head"] == "remap"
    net = build(with_classes(arch_config("mlp-s"), 3))
    net.load_state_dict(load_file(result["weights"]), strict=True)
    data = load_data(name)
    row = rows_of(result)["search"]
    assert correct(net, data.test) == pytest.approx(row["test_accuracy"] * len(data.test), abs=1e-3)
    assert row["test_accuracy"] > 0.9


def test_heads_for_unknown_classes_are_refitted(popgen: Any, here: Path) -> None:
    """Twelve classes in folders of images: 0 to 9, and two of them inverted."""
    plain = load_data("digits/rotate:45")
    for split in ("train", "val", "test"):
        part: Part = getattr(plain, split)
        for i, (image, label) in enumerate(zip(part.inputs[:240, 0], part.targets[:240].tolist(), strict=True)):
            for name, pixels in ((f"d{label}", image), *([(f"i{label}", 1 - image)] if label < 2 else [])):
                file = here / "images" / split / name / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((pixels * 255).round().to(torch.uint8).numpy()).save(file)
    command = ("search", "--arch", "cnn-s", "--data", "folder:images", *QUICK, "--evaluations", 30, "--out", "run")
    result = popgen(*command).results[0]
    assert result["details"]["head"] == "refit"
    net = build(with_classes(arch_config("cnn-s"), 12))
    net.load_state_dict(load_file(result["weights"]), strict=True)
    data, row = load_data("folder:images"), rows_of(result)["search"]
    assert correct(net, data.test) == pytest.approx(row["test_accuracy"] * len(data.test), abs=1e-3)
    assert row["test_accuracy"] > 0.75


def test_batch_norm_auto_takes_what_the_validation_loss_prefers(
    popgen: Any, here: Path, timeless: Callable[[Path], list[dict[str, Any]]]
) -> None:
    chosen, losses = {}, {}
    for kind in ("auto", "keep", "reestimate"):
        command = ("search", "--arch", "resnet-s", *DATA, *QUICK, "--evaluations", 2, "--out", kind)
        chosen[kind] = popgen(*command, "--batch-norm", kind).results[0]["details"]["batch_norm"]
        losses[kind] = timeless(here / kind)[1]["loss"]
    assert losses["keep"] != losses["reestimate"]
    better = min(("keep", "reestimate"), key=lambda kind: losses[kind])
    assert (chosen["auto"], losses["auto"]) == (better, losses[better])


def test_an_optimizer_of_the_users_own(
    popgen: Any,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    timeless: Callable[[Path], list[dict[str, Any]]],
) -> None:
    (here / "stairs_optimizer.py").write_text(
        """
import numpy as np

class Stairs:
    def __init__(self, dim, batch, seed, seeds):
        self.dim, self.step, self.seeds = dim, 0, seeds

    def ask(self):
        assert len(self.seeds) == 25 and self.seeds[0][1] == min(loss for _, loss in self.seeds)
        self.step += 1
        return np.full(self.dim, 0.125 * self.step)

    def tell(self, coordinates, loss):
        assert loss == loss
"""
    )
    monkeypatch.syspath_prepend(str(here))
    command = ("search", "--arch", "mlp-s", *DATA, *QUICK, "--evaluations", 28, "--out", "run")
    popgen(*command, "--optimizer", "stairs_optimizer:Stairs")
    asked = [set(record["coordinates"]) for record in timeless(here / "run")[26:]]
    assert asked == [{0.125}, {0.25}, {0.375}]


def test_without_the_zoo_its_rows_are_missing_and_the_rest_is_the_same(
    popgen: Any,
    here: Path,
    own_generator: Path,
    edit_json: Callable[..., None],
    timeless: Callable[[Path], list[dict[str, Any]]],
) -> None:
    edit_json(own_generator / "config.json", lambda content: content["provenance"].update(zoo="far-away"))
    command = ("search", "--arch", "mlp-s", *DATA, "--workers", 0, "--evaluations", 30, "--json")
    without = popgen(*command, "--generator", own_generator, "--out", "without")
    with_zoo = popgen(*command, "--out", "with")
    assert "the zoo 'far-away' was not found" in without.err and "--zoo" in without.err
    assert "not found" not in with_zoo.err
    rows, all_rows = rows_of(without.results[0]), rows_of(with_zoo.results[0])
    assert list(rows) == ["random", "shuffled", "empty", "generated_mean", "generated_best", "search"]
    assert rows == {name: all_rows[name] for name in rows}
    assert timeless(here / "without") == timeless(here / "with")
    named = popgen(*command, "--generator", own_generator, "--zoo", "digits", "--out", "named")
    assert rows_of(named.results[0]) == all_rows


def test_test_images_change_nothing_but_the_table(
    popgen: Any, here: Path, timeless: Callable[[Path], list[dict[str, Any]]]
) -> None:
    data = load_data("digits/rotate:135")
    classes, generator = list(data.classes), torch.Generator().manual_seed(0)
    noise = Part(torch.rand(data.test.inputs.shape, generator=generator), data.test.targets)
    found = {}
    for kind, test in (("real", data.test), ("noise", noise)):
        name = save_npz(here / f"{kind}.npz", {"train": data.train, "val": data.val, "test": test}, classes)
        command = ("search", "--arch", "mlp-s", "--data", name, "--workers", 0, "--json", "--evaluations", 50)
        found[kind] = rows_of(popgen(*command, "--out", kind, "--head", "refit").results[0])
    assert timeless(here / "real") == timeless(here / "noise")
    weights = [load_file(here / kind / "best-mlp-s.safetensors") for kind in found]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    for name, row in found["real"].items():
        assert row["val_accuracy"] == found["noise"][name]["val_accuracy"]
    assert found["real"]["search"]["test_accuracy"] > 0.8 > 0.3 > found["noise"]["search"]["test_accuracy"]


def test_the_function_gives_what_the_command_gives(
    run_folder: tuple[Path, dict[str, Any]], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"evaluations": 60, "compute": {"workers": 0}, "finetune": {"mode": "never"}}
    found = library.search(["cnn-s", "mlp-s"], "digits/rotate:45", out=str(here / "again"), **settings)
    assert capsys.readouterr().out == ""
    for one, printed in zip(found, run_folder[1]["results"], strict=True):
        assert one.to_json()["rows"] == printed["rows"]
        again, first = load_file(one.weights), load_file(printed["weights"])
        assert again.keys() == first.keys() and all(torch.equal(again[name], first[name]) for name in first)


def test_the_function_goes_on_with_a_run(here: Path) -> None:
    def count(folder: str) -> int:
        return len((here / folder / "history.jsonl").read_text().splitlines())

    settings = {"seed": 3, "baselines": "none", "compute": {"workers": 0}}
    library.search("mlp-s", "digits/rotate:45", evaluations=20, out="run", **settings)
    assert count("run") == 21
    seen: list[str] = []
    [found] = library.search(resume="run", evaluations=24, on_evaluation=lambda arch, _: seen.append(arch))
    assert found.row("search").evaluations == 24 and count("run") == 25 and seen == ["mlp-s"] * 4
    with pytest.raises(NotFound, match="there is no row called 'serch'\nnearest known: search\n"):
        found.row("serch")
    with pytest.raises(CannotResume, match="data was digits/rotate:45, is digits"):
        library.search(data="digits", resume="run")
    with pytest.raises(BadInput, match="resume and out are both given"):
        library.search(resume="run", out="other")
    with pytest.raises(NotFound, match="there is no run in 'nowhere'"):
        library.search(resume="nowhere")
    with pytest.raises(BadInput, match=r"popgen.search: archs is missing .and 1 more: data."):
        library.search()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: library.Sampling(guidance=-1), "Sampling: guidance has a value that does not fit\nreceived -1"),
        (
            lambda: library.Compute(worker=2),
            "Compute: worker is not a known key\nreceived 2 .int.; nearest known: workers",
        ),
        (lambda: SearchConfig(archs=[], data="digits"), "SearchConfig: archs has a value that does not fit"),
        (lambda: SweepConfig(name="a"), "SweepConfig: archs is missing .and 1 more: data."),
        (lambda: library.search("mlp-s", "digits", sampling={"guidance": -1}), "popgen.search: sampling.guidance has"),
    ],
)
def test_settings_that_do_not_fit_are_explained_in_python_too(make: Callable[[], object], text: str) -> None:
    with pytest.raises(BadInput, match=text):
        make()


def test_all_files_of_a_run_have_one_mode(run_folder: Any) -> None:
    folder, _ = run_folder
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.rglob("*") if file.is_file()}
    assert len(set(modes.values())) == 1, modes
