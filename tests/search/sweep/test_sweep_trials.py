"""Trials on Ray Tune, and a map over Ray tasks: failures, deaths, resumed sweeps and refusals."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import ray

from search import RunLocked, SearchError
from search.pools.ray_map import ray_map
from search.sweep.sweep import SweepProgress, TrialResources, TrialResult, run_trials

pytestmark = pytest.mark.usefixtures("ray_cluster")


def trial(parameters: dict[str, Any]) -> dict[str, Any]:
    """Append a line to a log at each run, then succeed, fail, die or wait as `kind` asks for."""
    log = Path(parameters["log"])
    with log.open("a") as file:
        file.write("begun\n")
    times, kind = len(log.read_text().splitlines()), parameters["kind"]
    give_up = time.monotonic() + 60
    while "meets" in parameters and not Path(parameters["meets"]).exists() and time.monotonic() < give_up:
        time.sleep(0.2)  # until the other trial has begun, too
    time.sleep(0.5 if "meets" in parameters else 0)
    if kind == "dies" or (kind == "dies once" and times == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "raises" or (kind == "raises once" and times == 1):
        raise ValueError("no such network\nat all")
    if kind == "refuses":
        raise SearchError("what\nwhy\nwhat to do")
    if kind == "locked once" and times == 1:
        raise RunLocked("the old process still holds the history")
    if kind == "not JSON":
        return {"result": {1, 2}}
    return {"times": times, "where": os.getcwd(), "threads": os.environ.get("OMP_NUM_THREADS")}


def trials(folder: Path, *kinds: str) -> dict[str, dict[str, Any]]:
    return {kind: {"kind": kind, "log": str(folder / f"{kind}.log")} for kind in kinds}


def runs(folder: Path, kind: str) -> int:
    return len((folder / f"{kind}.log").read_text().splitlines())


@pytest.mark.slow
def test_a_failure_stays_with_its_trial_and_resume_runs_only_that_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    some = trials(tmp_path, "fine", "raises once", "dies once", "locked once", "refuses", "not JSON", "good")
    some["fine"]["meets"], some["raises once"]["meets"] = some["raises once"]["log"], some["fine"]["log"]
    seen: list[SweepProgress] = []
    out = run_trials(trial, some, tmp_path / "sweep", on_progress=seen.append)
    assert list(out) == list(some)
    assert out["fine"] == TrialResult({"times": 1, "where": os.getcwd(), "threads": "1"}, None)
    assert out["raises once"].result is None
    assert str(out["raises once"].error).splitlines()[0] == "ValueError: no such network"
    assert "test_sweep_trials.py" in str(out["raises once"].error), "the traceback of an unexpected error is kept"
    assert out["dies once"].result is not None and out["dies once"].result["times"] == 2
    assert out["locked once"].result is not None and out["locked once"].result["times"] == 2
    assert out["refuses"] == TrialResult(None, "what\nwhy\nwhat to do")
    assert "not JSON serializable" in str(out["not JSON"].error)
    assert [runs(tmp_path, kind) for kind in some] == [1, 1, 2, 2, 1, 1, 1]
    assert seen[-1] == SweepProgress(done=7, total=7, failed=3, running=0)
    assert max(one.running for one in seen) == 2
    assert capfd.readouterr().out == ""
    assert not Path("~/ray_results").expanduser().exists()

    again = run_trials(trial, some, tmp_path / "sweep", resume=True, on_progress=seen.append)
    assert {name: again[name] for name in ("fine", "dies once", "good")} == {
        name: out[name] for name in ("fine", "dies once", "good")
    }
    assert again["raises once"].result is not None and again["raises once"].result["times"] == 2
    assert [runs(tmp_path, kind) for kind in some] == [1, 2, 2, 2, 2, 2, 1]
    assert seen[-1] == SweepProgress(done=7, total=7, failed=2, running=0)


@pytest.mark.slow
def test_tunes_record_may_be_old_of_other_settings_damaged_or_gone(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    some = trials(tmp_path, "fine", "good")

    def times(**options: Any) -> list[int]:
        out = run_trials(trial, some, sweep, resume=True, **options)
        return [one.result["times"] for one in out.values() if one.result is not None]

    run_trials(trial, trials(tmp_path, "fine"), sweep)
    assert times() == [1, 1], "only trials that the record does not hold are run"
    assert times(parallel=1) == [2, 2]
    for file in (sweep / "tune").iterdir():
        if file.is_file() and file.name != "settings.json":
            file.write_bytes(file.read_bytes()[:50])
    assert times(parallel=1) == [3, 3]
    shutil.rmtree(sweep / "tune")
    assert times(parallel=1) == [4, 4]


@pytest.mark.slow
def test_a_trial_that_always_dies_is_given_up(tmp_path: Path) -> None:
    out = run_trials(trial, trials(tmp_path, "dies", "fine"), tmp_path / "sweep")
    what, why, todo = str(out["dies"].error).splitlines()
    assert what == "the process of dies died 4 times" and "Error" in why and "fewer trials" in todo
    assert out["fine"].result is not None and runs(tmp_path, "dies") == 4


class DiesOnArrival:
    """A trial whose function kills the process that receives it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (1,)

    def __call__(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return {}


@pytest.mark.slow
def test_trials_whose_processes_die_at_their_start_are_named(tmp_path: Path) -> None:
    out = run_trials(DiesOnArrival(), {"a": {}, "b": {}}, tmp_path)
    assert list(out) == ["a", "b"]
    assert [str(one.error).splitlines()[0] for one in out.values()] == [
        "the process of a died 4 times",
        "the process of b died 4 times",
    ]


def actors_inside(_: dict[str, Any]) -> dict[str, Any]:
    """Return the placement groups of the trial and of an actor that it starts."""
    from ray.util import get_current_placement_group

    class Worker:
        def place(self) -> str:
            return str(get_current_placement_group().id.hex())

    worker: Any = ray.remote(num_cpus=1)(Worker).remote()
    mine = get_current_placement_group()
    return {"trial": mine.id.hex(), "worker": ray.get(worker.place.remote()), "bundles": mine.bundle_specs}


@pytest.mark.slow
def test_actors_of_a_trial_take_its_resources(tmp_path: Path) -> None:
    """The cluster has two CPUs: two trials at a time would leave none for their workers."""
    out = run_trials(actors_inside, {"a": {}, "b": {}}, tmp_path, resources=TrialResources(workers=1))
    for one in out.values():
        assert one.result is not None, one.error
        assert one.result["trial"] == one.result["worker"]
        assert one.result["bundles"] == [{"CPU": 1.0}, {"CPU": 1.0}]


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(SearchError) as error:
        run_trials(trial, trials(tmp_path, "fine"), tmp_path, resources=TrialResources(workers=400))
    what, why, todo = str(error.value).splitlines()
    assert what == "a trial of 401 CPUs and 0 GPUs does not fit into the Ray cluster"
    assert why.startswith("it has 2 CPUs") and todo == "ask for fewer workers, or a smaller share of a GPU"
    with pytest.raises(SearchError, match="1 CPUs and 0.5 GPUs"):
        run_trials(trial, trials(tmp_path, "fine"), tmp_path, resources=TrialResources(gpus=0.5))
    lock = threading.Lock()
    with pytest.raises(SearchError, match="cannot be sent to a node"):
        run_trials(lambda _: {"lock": str(lock)}, trials(tmp_path, "fine"), tmp_path)


def square(number: int) -> tuple[int, str | None]:
    return number**2, os.environ.get("OMP_NUM_THREADS")


def hand_over(item: tuple[str, str]) -> str:
    """Succeed, die or raise as the second word of the item asks for, once or always."""
    log, kind = Path(item[0]), item[1]
    first = not log.exists()
    log.touch()
    if kind == "dies" or (kind == "dies once" and first):
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "raises":
        raise KeyError("not that one")
    return kind


@pytest.mark.slow
def test_ray_map_gives_results_in_order() -> None:
    assert ray_map(square, list(range(8))) == [(number**2, "1") for number in range(8)]


def test_ray_map_retries_deaths(tmp_path: Path) -> None:
    items = [(str(tmp_path / "a"), "fine"), (str(tmp_path / "b"), "dies once")]
    assert ray_map(hand_over, items) == ["fine", "dies once"]


@pytest.mark.slow
def test_ray_map_raises_exceptions_and_gives_up(tmp_path: Path) -> None:
    items = [(str(tmp_path / "a"), "fine"), (str(tmp_path / "b"), "dies once")]
    with pytest.raises(KeyError, match="not that one"):
        ray_map(hand_over, [*items, (str(tmp_path / "c"), "raises")])
    with pytest.raises(SearchError) as error:
        ray_map(hand_over, [(str(tmp_path / "d"), "dies")], retries=1)
    what, why, todo = str(error.value).splitlines()
    assert what == "a process died 2 times while it computed one of 1 items"
    assert "WorkerCrashedError" in why and "leave the address out" in todo


def test_a_function_that_cannot_be_sent_is_refused() -> None:
    lock = threading.Lock()
    with pytest.raises(SearchError) as error:
        ray_map(lambda item: (lock, item), [1])
    what, why, todo = str(error.value).splitlines()
    assert "cannot be sent to a node" in what and "serialize" in why
    assert todo == "keep open files, locks and generators out of it"
