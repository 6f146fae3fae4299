"""`--batch-norm SHARE` and what `auto` chooses: in candidates, rows, cards and records, and in runs that go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors import safe_open

import popgen as library
from popgen.errors import BadInput, BrokenFile
from popgen.fitness import Fitness
from popgen.fitness.batch_norm import CHOICES
from popgen.jobs.searching.folder import read_batch_norm
from popgen.refs import asset
from popgen.zoo import Zoo

SEARCH = ("search", "--arch", "resnet-s", "--workers", 0, "--json")
SMALL = ("--population", 2, "--experts", 2, "--baselines", "none")


def losses(timeless: Any, folder: str) -> list[float | None]:
    return [line.get("loss") for line in timeless(Path(folder))]


@pytest.mark.usefixtures("here")
def test_a_share_is_a_treatment_of_its_own(
    popgen: Any, timeless: Callable[[Path], list[dict[str, Any]]], here: Path
) -> None:
    found = {}
    for value in ("0", "0.5", "1"):
        command = (*SEARCH, *SMALL, "--data", "digits/mirror", "--evaluations", 2)
        found[value] = popgen(*command, "--batch-norm", value, "--out", value)
    kinds = {value: called.results[0]["details"]["batch_norm"] for value, called in found.items()}
    assert kinds == {"0": "keep", "0.5": 0.5, "1": "reestimate"}
    assert len({losses(timeless, value)[1] for value in ("0", "0.5", "1")}) == 3
    assert "batch norm reestimate by 0.5" in found["0.5"].err
    with safe_open(here / "0.5" / "best-resnet-s.safetensors", framework="pt") as file:
        assert file.metadata()["batch_norm"] == "0.5"
    assert yaml.safe_load(Path("0.5/config.yaml").read_text())["search"]["batch_norm"] == 0.5


@pytest.mark.usefixtures("here")
def test_what_is_no_share_is_refused(popgen: Any) -> None:
    for value in ("1.5", "-0.1", "nan", "reestimat"):
        called = popgen(*SEARCH, "--data", "digits", "--batch-norm", value, code=None)
        assert called.code == 2 and "a number from 0 to 1" in called.err
    with pytest.raises(BadInput, match="batch_norm"):
        library.search("resnet-s", "digits", batch_norm=1.5)


@pytest.mark.usefixtures("here")
def test_a_run_goes_on_under_the_treatment_that_it_chose(popgen: Any, timeless: Any) -> None:
    command = (*SEARCH, *SMALL, "--data", "digits/mirror")
    popgen(*command, "--batch-norm", "auto", "--evaluations", 3, "--out", "run")
    file = Path("run/batch-norm-resnet-s.json")
    chosen = json.loads(file.read_text())["batch_norm"]
    assert chosen in CHOICES and read_batch_norm(file) == chosen
    file.write_text('{"batch_norm": 0.5}')
    [result] = popgen("search", "--resume", "run", "--evaluations", 5, "--json").results
    assert result["details"]["batch_norm"] == 0.5 != chosen
    assert len(losses(timeless, "run")) == 6


def test_a_record_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    for content in ("{", "[]", "{}", '{"batch_norm": "often"}', '{"batch_norm": 3}', '{"batch_norm": null}'):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(BrokenFile, match=r"x\.json cannot be read"):
            read_batch_norm(tmp_path / "x.json")


@pytest.mark.usefixtures("here")
def test_a_run_of_an_earlier_version_compares_what_that_compared(popgen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    prefer = Fitness.prefer_batch_norm
    monkeypatch.setattr(Fitness, "prefer_batch_norm", lambda *args: seen.append(args[2]) or prefer(*args))
    command = (*SEARCH, *SMALL, "--data", "digits/mirror")
    popgen(*command, "--evaluations", 3, "--out", "run")
    Path("run/batch-norm-resnet-s.json").unlink()
    popgen("search", "--resume", "run", "--evaluations", 4)
    assert seen == [CHOICES, CHOICES[:2]]


@pytest.fixture
def two_experts(here: Path) -> None:
    """./zoos/two: two of the shipped zoo's networks with batch norm."""
    shipped = asset("zoos", "digits")
    assert shipped is not None
    zoo = Zoo.open(shipped)
    records = zoo.select("resnet-s")[:2]
    own = Zoo.create(here / "zoos" / "two", "two")
    own.add(zip(records, zoo.matrix(records), strict=True))
    own.finalize()


@pytest.mark.usefixtures("two_experts")
def test_experts_and_their_rivals_are_compared_under_every_share(popgen: Any) -> None:
    command = (*SEARCH, "--data", "digits/mirror", "--space", "low-rank", "--zoo", "zoos/two", "--evaluations", 8)
    command = (*command, "--merges", "none")
    [result] = popgen(*command, "--out", "run").results
    decision = json.loads(Path("run/experts-resnet-s.json").read_text())
    assert decision["batch_norm"] in CHOICES and decision["spent"] == 2 + 1
    assert [row["evaluations"] for row in result["rows"]] == [5, 10, 5, 8], "random, best_zoo, average, search"
    [again] = popgen(*command, "--batch-norm", "0.25", "--out", "quarter").results
    assert json.loads(Path("quarter/experts-resnet-s.json").read_text())["batch_norm"] == 0.25
    assert [row["evaluations"] for row in again["rows"]] == [1, 2, 1, 8]
