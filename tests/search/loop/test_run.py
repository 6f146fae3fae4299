"""The search loop: resume, limits, failures, and the same history for any number of workers."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from search import (
    OPTIMIZERS,
    Budget,
    Population,
    RayPool,
    ResumeMismatch,
    SearchError,
    SearchSettings,
    TooManyFailures,
    UnknownOptimizer,
    run_search,
)


def settings(evaluations: int | None = 40, optimizer: str = "CMA", **limits) -> SearchSettings:
    return SearchSettings(optimizer=optimizer, batch=6, seed=3, budget=Budget(evaluations=evaluations, **limits))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_n_and_then_m_is_n_plus_m(optimizer, tmp_path, seeds, quadratic, timeless):
    """The search is broken off within the seeds, within a batch, and between two batches."""
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    np.random.seed(1)
    once = run_search(quadratic(6), seeds(), settings(90, optimizer), history_path=whole, key="net")
    for total in (3, 20, 47, 47, 90):
        np.random.seed(total)
        last = run_search(quadratic(6), seeds(), settings(total, optimizer), history_path=broken, key="net")
        assert last.evaluations == total
    assert timeless(broken) == timeless(whole)
    assert len(timeless(whole)) == 91
    assert (last.best_loss, last.best_index) == (once.best_loss, once.best_index)
    assert np.array_equal(last.best_vector, once.best_vector)
    assert last.resumed == 47


@pytest.mark.parametrize("space", ["identity", "pca"])
def test_cma_on_one_coordinate(space, tmp_path, timeless):
    """Two experts have one, and so have seeds on a line, which is only known when they are evaluated."""
    line = np.outer([0.0, 1.0, 2.0], [1.0] if space == "identity" else [1.0, 2.0, -1.0])
    given = {"key": "net", "population": Population(line, ["a", "b", "c"])}
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    for path, totals in ((whole, (60,)), (broken, (2, 20, 60))):
        for total in totals:
            one = replace(settings(total), space=space)
            found = run_search(lambda v: float((v[0] - 0.7) ** 2), settings=one, history_path=path, **given)
    assert timeless(broken) == timeless(whole) and found.space_dim == 1
    assert found.best_loss < 1e-3 and found.best_origin == "TBPSA", "the record names what has searched"


@pytest.mark.parametrize("dim", [16, 64])
@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "RandomSearch"])
def test_beats_its_best_seed(optimizer, dim, tmp_path, seeds, quadratic):
    found = run_search(
        quadratic(dim), seeds(dim, 20), replace(settings(300, optimizer), space="std"),
        history_path=tmp_path / "history.jsonl", key="net",
    )  # fmt: skip
    assert found.best_loss < 0.9 * found.best_seed_loss
    assert quadratic(dim)(found.best_vector) == found.best_loss
    assert (found.evaluations, found.seeds, found.stopped_by, found.failures) == (300, 21, "evaluations", 0)


@pytest.mark.usefixtures("ray_cluster")
def test_same_history_for_any_workers(tmp_path, seeds, quadratic, timeless):
    objective = quadratic(6)

    def slow_on_some(vector: np.ndarray) -> float:
        time.sleep(0.02 * (vector[0] > 0))
        if vector[1] > 1.0:
            raise RuntimeError("unlucky")
        return objective(vector)

    def history(name: str, workers: int) -> list[dict]:
        pool = RayPool(slow_on_some, workers) if workers else None
        run_search(slow_on_some, seeds(), settings(52), history_path=tmp_path / name, key="net", pool=pool)
        if pool is not None:
            pool.close()
        return timeless(tmp_path / name)

    local = history("local.jsonl", 0)
    assert any(line.get("error") == "RuntimeError: unlucky" for line in local)
    assert history("one.jsonl", 1) == local
    assert history("two.jsonl", 2) == local


DRIVER = """
import sys, time
import numpy as np
from search import Budget, Population, SearchSettings, run_search

def run(path, delay):
    def objective(vector):
        time.sleep(delay)
        return float(((vector - 0.2) ** 2).sum())

    seeds = Population(np.random.default_rng(0).normal(size=(10, 5)), ["drawn"] * 10)
    settings = SearchSettings(batch=6, budget=Budget(evaluations=60))
    return run_search(objective, seeds, settings, history_path=path, key="net")

if __name__ == "__main__":
    run(sys.argv[1], 0.02)
"""


def test_a_killed_driver_resumes_to_the_same_best(tmp_path, monkeypatch, timeless):
    (tmp_path / "killed_driver.py").write_text(DRIVER)
    monkeypatch.syspath_prepend(tmp_path)
    run = importlib.import_module("killed_driver").run
    path = tmp_path / "killed.jsonl"
    killed = subprocess.Popen([sys.executable, "-c", DRIVER, str(path)])
    while not path.exists() or path.read_bytes().count(b"\n") < 22:
        assert killed.poll() is None
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert path.read_bytes().count(b"\n") < 60
    resumed, unbroken = run(path, 0), run(tmp_path / "whole.jsonl", 0)
    assert (resumed.best_loss, resumed.best_index) == (unbroken.best_loss, unbroken.best_index)
    assert np.array_equal(resumed.best_vector, unbroken.best_vector)
    assert timeless(path) == timeless(tmp_path / "whole.jsonl")


def test_interrupted_and_resumed(tmp_path, seeds, quadratic, timeless):
    objective, calls = quadratic(6), iter(range(1000))

    def interrupted(vector: np.ndarray) -> float:
        if next(calls) == 27:
            raise KeyboardInterrupt
        return objective(vector)

    path = tmp_path / "history.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run_search(interrupted, seeds(), settings(), history_path=path, key="net")
    assert len(timeless(path)) == 28
    run_search(objective, seeds(), settings(), history_path=path, key="net")
    run_search(objective, seeds(), settings(), history_path=tmp_path / "whole.jsonl", key="net")
    assert timeless(path) == timeless(tmp_path / "whole.jsonl")


def test_the_mean_and_the_seeds_are_evaluated_first(tmp_path, seeds, quadratic, timeless):
    population, seen = seeds(), []
    path = tmp_path / "history.jsonl"
    found = run_search(quadratic(6), population, settings(30), history_path=path, key="net", on_evaluation=seen.append)
    lines = timeless(path)[1:]
    assert [line["origin"] for line in lines[:11]] == ["mean", *population.origins]
    assert [line["phase"] for line in lines] == ["seed"] * 11 + ["search"] * 19
    assert [line["batch"] for line in lines] == [0] * 6 + [1] * 5 + [2] * 6 + [3] * 6 + [4] * 6 + [5]
    assert lines[0]["loss"] == quadratic(6)(population.mean())
    assert all((line["coordinates"] is None) == (line["phase"] == "seed") for line in lines)
    assert [progress.done for progress in seen] == list(range(1, 31))
    assert (seen[-1].total, seen[-1].eta, seen[-1].best_loss) == (30, 0.0, found.best_loss)
    alone = Population(population.vectors[:1], ["only"])
    found = run_search(quadratic(6), alone, settings(20), history_path=path, key="alone")
    assert (found.seeds, found.space_name) == (1, "identity")


def test_stops(tmp_path, seeds, quadratic):
    def run(name: str, **limits):
        path = tmp_path / f"{name}.jsonl"
        return run_search(quadratic(6), seeds(), settings(**limits), history_path=path, key="net")

    target = run("target", evaluations=400, target=2.0)
    assert target.stopped_by == "target" and target.best_loss <= 2.0 and target.best_index == target.evaluations - 1
    assert run("target", evaluations=400, target=2.0).evaluations == target.evaluations
    assert run("target", evaluations=400, target=0.2).evaluations > target.evaluations
    patience = run("patience", evaluations=None, patience=9)
    assert patience.stopped_by == "patience"
    assert patience.evaluations == max(11, patience.best_index + 1) + 9
    seconds = run("seconds", evaluations=None, seconds=0.2)
    assert seconds.stopped_by == "seconds" and seconds.seconds >= 0.2
    # A resumed search counts time from its last record, which may be somewhat earlier than the moment of the stop.
    recorded = json.loads((tmp_path / "seconds.jsonl").read_text().splitlines()[-1])["elapsed"]
    again = run("seconds", evaluations=None, seconds=recorded)
    assert (again.stopped_by, again.evaluations) == ("seconds", seconds.evaluations)


@pytest.mark.parametrize("bad", [ValueError("no"), float("nan"), -float("inf")])
def test_failures_are_survived(bad, tmp_path, seeds, quadratic, timeless):
    calls = iter(range(1000))

    def objective(vector: np.ndarray) -> float:
        if next(calls) % 4 == 1:
            if isinstance(bad, Exception):
                raise bad
            return bad
        return quadratic(6)(vector)

    path = tmp_path / "history.jsonl"
    found = run_search(objective, seeds(), settings(60), history_path=path, key="net")
    lines = timeless(path)[1:]
    failed = [line for line in lines if line["error"] is not None]
    assert (len(failed), found.failures) == (15, 15)
    assert all(line["loss"] is None for line in failed)
    assert found.best_loss == min(line["loss"] for line in lines if line["loss"] is not None)
    assert found.best_loss < found.best_seed_loss


def test_ten_failures_in_a_row(tmp_path, seeds, quadratic):
    calls = iter(range(1000))

    def objective(vector: np.ndarray) -> float:
        if (call := next(calls)) > 13:
            raise OSError(f"disk {call} is full")
        return quadratic(6)(vector)

    path = tmp_path / "history.jsonl"
    with pytest.raises(TooManyFailures) as caught:
        run_search(objective, seeds(), settings(60), history_path=path, key="net")
    assert str(caught.value) == (
        f"{path}, search 'net', stopped: evaluations 14 to 23 all failed\n"
        "the first of them: OSError: disk 14 is full\n"
        "mend the objective, then resume; what was evaluated is kept"
    )
    mended = run_search(quadratic(6), seeds(), settings(60), history_path=path, key="net")
    assert (mended.evaluations, mended.failures) == (60, 10)


def test_all_seeds_fail_and_nothing_is_best(tmp_path, seeds):
    found = run_search(lambda _: float("nan"), seeds(), settings(9), history_path=tmp_path / "history.jsonl", key="net")
    assert (found.best_vector, found.best_loss, found.failures, found.space_name) == (None, None, 9, None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"optimizer": "DE"}, "optimizer was 'CMA', is 'DE'"),
        ({"batch": 5, "seed": 4}, "batch was 6, is 5; seed was 3, is 4"),
        ({"sigma": 0.3}, "sigma was None, is 0.3"),
        ({"space": "pca"}, "space was 'auto', is 'pca'"),
    ],
)
def test_other_settings_cannot_resume(change, said, tmp_path, seeds, quadratic):
    path = tmp_path / "history.jsonl"
    run_search(quadratic(6), seeds(), settings(20), history_path=path, key="net")
    with pytest.raises(ResumeMismatch) as caught:
        run_search(quadratic(6), seeds(), replace(settings(20), **change), history_path=path, key="net")
    assert str(caught.value).splitlines()[:2] == [f"{path}, search 'net', cannot be resumed with other settings", said]


def test_other_seeds_or_records_cannot_resume(tmp_path, seeds, quadratic):
    path = tmp_path / "history.jsonl"
    run_search(quadratic(6), seeds(), settings(20), history_path=path, key="net")
    with pytest.raises(ResumeMismatch, match=r"\npopulation was '[0-9a-f]{64}', is '"):
        run_search(quadratic(6), seeds(rng=1), settings(20), history_path=path, key="net")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[15]["coordinates"][0] += 1e-9
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ResumeMismatch, match=r"evaluation 14 has other coordinates\nrecorded with .*nevergrad"):
        run_search(quadratic(6), seeds(), settings(30), history_path=path, key="net")


def test_refused_before_anything_runs(tmp_path, seeds):
    path = tmp_path / "none" / "history.jsonl"
    with pytest.raises(UnknownOptimizer, match="unknown optimizer 'CNA'"):
        run_search(abs, seeds(), replace(settings(), optimizer="CNA"), history_path=path, key="net")
    with pytest.raises(SearchError, match="no objective and no pool\n"):
        run_search(None, seeds(), settings(), history_path=path, key="net")
    assert not path.parent.exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SearchSettings(batch=0), "batch is 0"),
        (lambda: SearchSettings(seed=-1), "seed is -1"),
        (lambda: SearchSettings(sigma=0.0), "sigma is 0.0"),
        (lambda: SearchSettings(space="std2"), "unknown space 'std2'"),
        (lambda: SearchSettings(mode="fast"), "unknown mode 'fast'"),
        (lambda: SearchSettings(rungs=(0.5, 0.25)), "rungs are [0.5, 0.25]"),
        (lambda: SearchSettings(rungs=(1.0,)), "rungs are [1.0]"),
        (lambda: SearchSettings(rungs=(0.5,), mode="async"), "rungs do not go with mode async"),
        (lambda: SearchSettings(rungs=(0.5,), objectives=("loss", "size")), "rungs do not go with a Pareto search"),
        (lambda: SearchSettings(objectives=()), "objectives are []"),
        (lambda: SearchSettings(objectives=("loss", "loss")), "objectives are ['loss', 'loss']"),
        (
            lambda: SearchSettings(objectives=("loss", "size"), weights=(1.0,)),
            "weights are [1.0] for the objectives ['loss', 'size']",
        ),
        (
            lambda: SearchSettings(objectives=("loss", "size"), budget=Budget(target=0.1)),
            "a target of 0.1 does not go with a Pareto search",
        ),
        (lambda: Budget(evaluations=0), "budget.evaluations is 0"),
        (lambda: Budget(target=float("nan")), "budget.target is NaN"),
        (lambda: Budget(evaluations=None), "the budget has no limit at all"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(SearchError) as caught:
        make()
    lines = str(caught.value).splitlines()
    assert lines[0] == message and len(lines) == 3


def test_an_evaluation_may_cost_more_than_one(tmp_path, seeds, quadratic, timeless):
    """The candidates are those of cost 1, as many as fit into the budget, wherever the search is broken off."""
    path, broken = tmp_path / "dear.jsonl", tmp_path / "broken.jsonl"
    dear = replace(settings(60), cost=2.5)
    found = run_search(quadratic(6), seeds(), dear, history_path=path, key="net")
    lines = timeless(path)[1:]
    assert (found.looks, found.evaluations, found.stopped_by) == (24, 60, "evaluations")
    assert {line["cost"] for line in lines} == {2.5}
    run_search(quadratic(6), seeds(), settings(24), history_path=tmp_path / "plain.jsonl", key="net")
    assert lines == [{**line, "cost": 2.5} for line in timeless(tmp_path / "plain.jsonl")[1:]]
    for total in (9, 44, 60):
        last = run_search(quadratic(6), seeds(), replace(settings(total), cost=2.5), history_path=broken, key="net")
        assert last.looks == int(total / 2.5)
    assert timeless(broken) == timeless(path)
    in_async = replace(dear, mode="async")
    last = run_search(quadratic(6), seeds(), in_async, history_path=tmp_path / "async.jsonl", key="net")
    assert (last.looks, last.evaluations) == (24, 60)


def test_a_race_pays_shares_of_the_cost(tmp_path, seeds, quadratic, timeless):
    class Looked:
        def __call__(self, vector):
            return quadratic(6)(vector)

        def look(self, vector, share, carry):
            return self(vector) * share, {}, None

    dear = replace(settings(80), cost=2.0, rungs=(0.5,))
    found = run_search(Looked(), seeds(), dear, history_path=tmp_path / "race.jsonl", key="net")
    lines = timeless(tmp_path / "race.jsonl")[1:]
    assert {(line["phase"], line["share"], line["cost"]) for line in lines} == {
        ("seed", 1.0, 2.0), ("search", 0.5, 1.0), ("search", 1.0, 1.0)
    }  # fmt: skip
    assert found.evaluations == sum(line["cost"] for line in lines) == 80


@pytest.mark.parametrize(
    ("cost", "message"),
    [(0.0, "cost is 0.0\nan evaluation takes"), (float("nan"), "cost is nan"), (50.0, "below the cost of one, 50\n")],
)
def test_bad_costs(cost, message):
    with pytest.raises(SearchError, match=message):
        replace(settings(40), cost=cost)


def test_a_history_is_not_continued_at_another_cost(tmp_path, seeds, quadratic):
    path = tmp_path / "history.jsonl"
    run_search(quadratic(6), seeds(), settings(10), history_path=path, key="net")
    with pytest.raises(ResumeMismatch, match="cost was None, is 2.0"):
        run_search(quadratic(6), seeds(), replace(settings(20), cost=2.0), history_path=path, key="net")
