"""`--precision`: what is recorded, what is refused, and that float32 decides what a search in bfloat16 gives back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from popgen.archs import ArchSpec
from popgen.data import load_data
from popgen.errors import BadInput, BrokenFile
from popgen.fitness import LatentObjective, make_fitness
from popgen.fitness.measures import MEASURES
from popgen.generator import Generator
from popgen.jobs.searching.precision import read_precision
from popgen.networks.forward import network_outputs
from popgen.networks.precision import Compared, has_bfloat16
from popgen.weights.mask import Mask
from search import Population, best_of

MLP = ("search", "--arch", "mlp-s", "--data", "digits/rotate:45", "--baselines", "none", "--json", "--workers", 0)
SMALL = ("--population", 4, "--experts", 2)
ASKED = ("--precision", "bfloat16")
native = pytest.mark.skipif(not has_bfloat16(), reason="needs a CPU that computes in bfloat16")


def record(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "precision-mlp-s.json").read_text())
    return found


def losses(timeless: Any, run: Path) -> list[float | None]:
    return [line.get("loss") for line in timeless(run)]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose CPU only emulates bfloat16."""
    for module in ("popgen.jobs.searching.precision", "popgen.fitness.objective"):
        monkeypatch.setattr(f"{module}.has_bfloat16", lambda *_: False)


@native
@pytest.mark.usefixtures("here")
def test_float32_decides_a_search_in_bfloat16(popgen: Any, timeless: Callable[..., Any], here: Path) -> None:
    [exact] = popgen(*MLP, *SMALL, "--evaluations", 3, "--out", "exact").results
    called = popgen(*MLP, *SMALL, *ASKED, "--evaluations", 24, "--out", "run")
    [found] = called.results
    details = found["details"]
    assert "mlp-s: candidates are compared in bfloat16: it was asked for" in called.err
    assert details["precision"] == "bfloat16" and details["run_with"].endswith("bfloat16")
    assert exact["details"]["precision"] == "float32" and "bfloat16" not in exact["details"]["run_with"]
    one, other = losses(timeless, here / "exact"), losses(timeless, here / "run")
    assert one[1] != other[1] and one[1] == pytest.approx(other[1], abs=0.05), "the first seed is the same"
    # The result is the best in float32 of the eight best in bfloat16, by its loss with the prior's penalty.
    data, generator = load_data("digits/rotate:45"), Generator.from_pretrained("digits")
    fitness = make_fitness(generator.spec("mlp-s"), data, data.classes)
    population = Population.load(here / "run" / "population-mlp-s.safetensors")
    centre = population.vectors[[origin == "generated" for origin in population.origins]].mean(0)
    objective = LatentObjective(generator.decoder("mlp-s"), fitness, centre, 0.5)
    near = best_of(here / "run" / "history.jsonl", "mlp-s", population, 8)
    best = min(zip([objective(v)[0] for v in near.vectors], near.origins, range(8), strict=True))
    assert f"best:{details['best_index']}" == best[1]
    scored = fitness.score(objective.decoder.weights(near.vectors[best[2]].copy()))
    row = found["rows"][-1]
    assert row["val_loss"] == pytest.approx(scored.loss, abs=1e-6) and row["val_accuracy"] == scored.score
    line = json.loads((here / "run" / "history.jsonl").read_text().splitlines()[1 + details["best_index"]])
    assert details["best_origin"] == line["origin"] and line["metrics"]["unpenalised_loss"] != scored.loss


@native
@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_front_has_its_values_in_float32(popgen: Any) -> None:
    names = "error,calibration_error"
    [found] = popgen(*MLP, *SMALL, *ASKED, "--objectives", names, "--evaluations", 40, "--out", "run").results
    spec, val = ArchSpec.from_config("mlp-s"), load_data("digits/rotate:45").val
    front = found["details"]["front"]
    assert front and found["details"]["best_index"] in [point["index"] for point in front]
    for point in front:
        logits = network_outputs(
            spec, spec.to_flat(load_file(point["weights"])), spec.config.inputs.prepare(val.inputs)
        )
        for name, value in point["values"].items():
            assert MEASURES[name](logits, val.targets) == pytest.approx(value, abs=1e-5)
        rivals = [other["values"] for other in front if other is not point]
        assert not any(all(rival[name] <= point["values"][name] for name in rival) for rival in rivals)


@native
@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_run_keeps_its_precision(popgen: Any, timeless: Any, here: Path) -> None:
    popgen(*MLP, *SMALL, *ASKED, "--evaluations", 20, "--out", "whole")
    popgen(*MLP, *SMALL, *ASKED, "--evaluations", 12, "--out", "run")
    popgen("search", "--resume", "run", "--evaluations", 20)
    assert timeless(here / "run") == timeless(here / "whole")
    refused = popgen("search", "--resume", "run", "--precision", "float32", code=7)
    assert "compute.precision was bfloat16, is float32" in refused.err


@pytest.mark.usefixtures("here")
def test_auto_measures_once_and_records_why(popgen: Any, timeless: Any, here: Path) -> None:
    called = popgen(*MLP, *SMALL, "--precision", "auto", "--evaluations", 8, "--out", "run")
    decision = record(here / "run")
    if has_bfloat16():
        measured = Compared(**decision["measured"])
        assert (decision["precision"], decision["reason"]) == (measured.faster, measured.text())
    assert f"compared in {decision['precision']}: {decision['reason']}" in called.err
    assert called.results[0]["details"]["precision"] == decision["precision"]
    # The command that gives the same evaluations again names what was decided.
    popgen("report", "run", "--format", "md")
    report = (here / "run" / "report.md").read_text()
    assert "--precision auto" not in report
    assert ("--precision bfloat16" in report) == (decision["precision"] == "bfloat16")
    # What the first session decided holds, whatever would be measured now.
    before = losses(timeless, here / "run")
    (here / "run" / "precision-mlp-s.json").write_text('{"precision": "float32", "reason": "slow"}')
    [now] = popgen("search", "--resume", "run", "--evaluations", 10, "--json").results
    assert now["details"]["precision"] == "float32" and losses(timeless, here / "run")[:9] == before[:9]


@pytest.mark.usefixtures("here", "elsewhere")
def test_on_a_processor_that_would_emulate_it(popgen: Any, here: Path) -> None:
    refused = popgen(*MLP, *ASKED, "--out", "none", code=4)
    assert "this machine's CPU would emulate it" in refused.err and "--precision float32, or auto" in refused.err
    assert not (here / "none").exists()
    popgen(*MLP, *SMALL, "--precision", "auto", "--evaluations", 5, "--out", "run")
    reason = "this machine's CPU would emulate bfloat16"
    assert record(here / "run") == {"precision": "float32", "reason": reason, "measured": {}}
    (here / "run" / "precision-mlp-s.json").write_text('{"precision": "bfloat16", "reason": "it was asked for"}')
    refused = popgen("search", "--resume", "run", "--evaluations", 6, code=7)
    assert "was evaluated in bfloat16 so far" in refused.err and "--warm-start run" in refused.err


@pytest.mark.usefixtures("elsewhere")
def test_a_worker_that_would_emulate_it_is_refused() -> None:
    data, generator = load_data("digits/rotate:45"), Generator.from_pretrained("digits")
    fitness = make_fitness(generator.spec("mlp-s"), data, data.classes)
    LatentObjective(generator.decoder("mlp-s"), fitness).prepare()
    with pytest.raises(BadInput, match="this worker's CPU can only emulate: leave its node out"):
        LatentObjective(generator.decoder("mlp-s"), fitness, bfloat16=True).prepare()


@pytest.mark.usefixtures("here")
def test_an_unknown_precision_is_refused(popgen: Any) -> None:
    called = popgen(*MLP, "--precision", "float16", code=None)
    assert called.code == 2 and "'auto', 'float32', 'bfloat16'" in called.err


def test_a_record_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    for content in ("{", "[]", "{}", '{"precision": "float16", "reason": ""}'):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(BrokenFile, match=r"x\.json cannot be read"):
            read_precision(tmp_path / "x.json")


@native
@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_workers_give_the_history_of_one_process(popgen: Any, timeless: Any, here: Path) -> None:
    command = ("search", "--arch", "resnet-s", "--data", "digits/rotate:45", "--baselines", "none")
    for workers in (0, 2):
        popgen(*command, *SMALL, *ASKED, "--evaluations", 20, "--workers", workers, "--out", workers)
    assert timeless(here / "0") == timeless(here / "2")


@native
def test_parts_are_run_as_their_whole_networks_are() -> None:
    """Layers that all candidates share are run once, in bfloat16 too, with the same losses to the last digit."""
    data, generator = load_data("digits/rotate:45"), Generator.from_pretrained("digits")
    spec = generator.spec("cnn-s")
    last = torch.cat([torch.full((t.size,), not t.name.startswith("0.")) for t in spec.tensors])
    decoder = replace(generator.decoder("cnn-s"), mask=Mask(last, torch.randn(spec.size) / 10, ""))
    fitness = make_fitness(spec, data, data.classes, "keep")
    objective = LatentObjective(decoder, fitness, bfloat16=True)
    vector = np.random.default_rng(0).normal(size=generator.codes[0].numel())
    assert "shared tensors" in objective.evaluation
    whole = replace(fitness, bfloat16=True).score(decoder.weights(vector)).loss
    assert objective(vector)[0] == whole != fitness.score(decoder.weights(vector)).loss
