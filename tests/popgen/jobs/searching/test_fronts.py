"""The front of a search beside others: by hand on small tables, and on a real search, whose figures are computed anew from its weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from popgen.archs import ArchSpec
from popgen.data import load_data
from popgen.data.groups import load_groups
from popgen.fitness.measures import measure
from popgen.jobs.report import report
from popgen.jobs.searching.fronts import dominated, volume
from popgen.networks.forward import network_outputs

DATA = "digits/style:rotate:45:0.2"
SEARCH = ("search", "--arch", "mlp-s", "--workers", 0, "--population", 4, "--experts", 2, "--evaluations", 30)
OBJECTIVES = ("error", "worst_group_error")


@pytest.fixture(scope="module")
def run(popgen: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run with all rivals, and what it printed."""
    folder = tmp_path_factory.mktemp("fronts") / "run"
    called = popgen(
        *SEARCH, "--data", DATA, "--objectives", ",".join(OBJECTIVES), "--baselines", "all", "--out", folder
    )
    return folder, called.out


def details(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())["results"][0]["details"]
    return found


def test_dominance_and_volume_by_hand() -> None:
    front, other = np.array([[0.0, 2.0], [2.0, 0.0]]), np.array([[1.0, 2.0], [2.0, 0.0], [1.0, 1.0]])
    assert dominated(other, front) == 1, "an equal point dominates nothing"
    assert dominated(front, other) == 0
    box = np.zeros(2), np.array([4.0, 4.0])
    assert volume(front, box) == pytest.approx(12 / 16)
    assert volume(other, box) == pytest.approx((2 * 4 + 1 * 3) / 16)


def test_the_points_are_those_of_the_weights_on_both_splits(run: tuple[Path, str]) -> None:
    folder, printed = run
    found, data, spec = details(folder), load_data(DATA), ArchSpec.from_config("mlp-s")
    groups = load_groups(data, None)
    assert found["groups"] == {"plain": 242, "rotate:45": 58}
    for point in found["front"]:
        flat = spec.to_flat(load_file(point["weights"]))
        for key, part, index in (("values", data.val, groups.index), ("test_values", data.test, groups.test)):
            logits = network_outputs(spec, flat, spec.config.inputs.prepare(part.inputs))
            for name, value in point[key].items():
                assert measure(name, logits, part.targets, index) == pytest.approx(value, abs=1e-6)
        assert f"{point['test_values']['worst_group_error']:.4f}" in printed
    own = found["fronts"]["fronts"][0]
    assert [p["values"] for p in own["points"]] == sorted(
        (p["values"] for p in found["front"]), key=lambda values: list(values.values())
    )


def test_the_fronts_beside_it(run: tuple[Path, str]) -> None:
    folder, printed = run
    found = details(folder)["fronts"]
    assert found["objectives"] == list(OBJECTIVES)
    names = [front["name"] for front in found["fronts"]]
    # 30 evaluations do not pay for the zoo's ranking and a training after it.
    assert names == ["search", "generated", "zoo", "noise", "mixtures", "generated, reweighted"]
    assert [front["evaluations"] for front in found["fronts"]] == [30, 4, 52, 82, 82, 30]
    best, reference = (np.array([end[name] for name in OBJECTIVES]) for end in found["box"]["test"])
    search = np.array([list(p["test_values"].values()) for p in found["fronts"][0]["points"]])
    for front in found["fronts"]:
        values, tested = (
            np.array([list(p[key].values()) for p in front["points"]]) for key in ("values", "test_values")
        )
        assert dominated(values, values) == 0 and (tested >= best).all() and (tested <= reference).all()
        assert front["test_hypervolume"] == pytest.approx(volume(tested, (best, reference)))
        assert (front["test_dominated"], front["test_dominates"]) == (
            dominated(tested, search),
            dominated(search, tested),
        )
        assert f"{front['val_hypervolume']:.3f}" in printed


def test_the_report_draws_them(run: tuple[Path, str]) -> None:
    folder, _ = run
    page = (Path(report(str(folder)).path)).read_text()
    assert "Fronts on validation images" in page and "Fronts on test images" in page
    found = details(folder)["fronts"]["fronts"]
    point = found[2]["points"][0]
    assert f"zoo, {point['origin']}: error {point['values']['error']:.4f}" in page
    text = Path(report(str(folder), form="md").path).read_text()
    assert "| zoo | 52 |" in text and "| test worst\\_group\\_error |" in text
    broken = json.loads((folder / "result.json").read_text())
    del broken["results"][0]["details"]["fronts"]["fronts"][0]["points"]
    (folder.parent / "broken").mkdir()
    for name in ("config.yaml", "history.jsonl", "population-mlp-s.safetensors"):
        (folder.parent / "broken" / name).write_bytes((folder / name).read_bytes())
    (folder.parent / "broken" / "result.json").write_text(json.dumps(broken))
    with pytest.raises(Exception, match="the fronts of mlp-s in result.json cannot be read\n.*\nResume the run."):
        report(str(folder.parent / "broken"))


def test_test_images_whose_groups_are_not_known(popgen: Callable[..., Any], tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("index,group\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(300)))
    options = ("--objectives", "error,equalised_odds", "--groups", table, "--baselines", "none")
    called = popgen(*SEARCH, "--data", "digits/rotate:45", *options, "--out", tmp_path / "run", "--json")
    assert (
        "the front is not scored on test images: equalised_odds needs their groups, which are not known" in called.err
    )
    found = called.results[0]["details"]
    assert all(point["test_values"] is None for point in found["front"])
    assert [front["name"] for front in found["fronts"]["fronts"]] == ["search", "generated"]
    assert found["fronts"]["box"]["test"] is None and found["fronts"]["fronts"][1]["test_hypervolume"] is None
    shown = popgen("search", "--resume", tmp_path / "run").out
    assert "│ generated │           4 │" in shown and " - │" in shown


@pytest.mark.parametrize(
    ("options", "pieces"),
    [
        (
            ("--data", "digits", "--objective", "demographic_parity"),
            ["the groups of 'digits' are not known", "Give --groups FILE", "--data digits/style:rotate:45:0.2"],
        ),
        (
            ("--data", DATA, "--objective", "equal_opportunity", "--split", "train"),
            ["equal_opportunity is that of the validation split", "Use val."],
        ),
        (
            ("--data", "digits", "--groups", "one.csv", "--objective", "equalised_odds"),
            ["equalised_odds compares groups, and these images do not allow it", "Give groups that share classes."],
        ),
        (
            ("--data", DATA, "--groups", "one.csv", "--objective", "error"),
            ["no objective uses groups", "Add --objective worst_group_error"],
        ),
    ],
)
def test_refusals(popgen: Callable[..., Any], here: Path, options: tuple[str, ...], pieces: list[str]) -> None:
    (here / "one.csv").write_text("index,group\n" + "".join(f"{i},a\n" for i in range(300)))
    refused = popgen(*SEARCH, *options, code=4)
    assert all(piece in refused.err for piece in pieces), refused.err


def test_an_unknown_measure_is_answered_with_the_nearest(popgen: Callable[..., Any]) -> None:
    refused = popgen(*SEARCH, "--data", DATA, "--objective", "equalized_odds", code=3)
    assert "nearest known: equalised_odds" in refused.err
