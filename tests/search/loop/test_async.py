"""`mode: async`: no worker waits for a batch, and a resumed search repeats the order of asks and tells."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from search import OPTIMIZERS, Budget, LocalPool, RayPool, SearchSettings, run_search

ASYNC = SearchSettings(batch=6, seed=3, mode="async", budget=Budget(evaluations=60))


class Shuffled(LocalPool):
    """Finishes three evaluations at a time in a random order, as workers of different speed do."""

    size = 3

    def completed(self, requests, ahead=0):
        rng, running, numbered = np.random.default_rng(8), [], iter(enumerate(requests))
        while True:
            while len(running) < self.size and (one := next(numbered, None)) is not None:
                running.append(one)
            if not running:
                return
            number, request = running.pop(rng.integers(len(running)))
            yield number, next(super().completed([request]))[1]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_out_of_order_and_resumed(optimizer, tmp_path, seeds, quadratic):
    """A history that is cut anywhere is replayed: unrecorded candidates are evaluated again at the same coordinates."""
    path = tmp_path / "history.jsonl"
    settings = replace(ASYNC, optimizer=optimizer)
    whole = run_search(quadratic(6), seeds(), settings, history_path=path, key="net", pool=Shuffled(quadratic(6)))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    order = [line["candidate"] for line in lines[1:]]
    assert sorted(order) == list(range(60)) and order != sorted(order)
    assert whole.evaluations == 60 and whole.best_loss < whole.best_seed_loss
    known = {line["candidate"]: line["coordinates"] for line in lines[1:]}
    for cut in (20, 37, 50):
        part = tmp_path / f"cut-{cut}.jsonl"
        part.write_text("".join(json.dumps(line) + "\n" for line in lines[: cut + 1]))
        missing = set(range(lines[cut]["asked"])) - {line["candidate"] for line in lines[1 : cut + 1]}
        resumed = run_search(quadratic(6), seeds(), settings, history_path=part, key="net")
        again = [json.loads(line) for line in part.read_text().splitlines()]
        assert resumed.evaluations == 60 and resumed.resumed == cut
        assert sorted(line["candidate"] for line in again[1:]) == list(range(60))
        assert len(missing) == 2
        for line in again[cut + 1 : cut + 3]:
            assert line["candidate"] in missing and line["coordinates"] == known[line["candidate"]]


def test_budgets(tmp_path, seeds, quadratic):
    def run(name, **limits):
        settings = replace(ASYNC, budget=Budget(**limits))
        path = tmp_path / f"{name}.jsonl"
        return run_search(None, seeds(), settings, history_path=path, key="net", pool=Shuffled(quadratic(6)))

    assert run("few", evaluations=7).evaluations == 7
    assert run("exact", evaluations=31).evaluations == 31
    target = run("target", evaluations=500, target=1.5)
    assert target.stopped_by == "target" and target.best_loss <= 1.5 < target.best_seed_loss
    assert run("patience", evaluations=None, patience=20).stopped_by == "patience"
    assert run("seconds", evaluations=None, seconds=0.3).stopped_by == "seconds"


@pytest.mark.usefixtures("ray_cluster")
def test_no_worker_waits_for_a_slow_candidate(tmp_path, seeds, quadratic, timeless):
    objective, first = quadratic(6), tmp_path / "first"

    def lines() -> int:
        return (tmp_path / "h.jsonl").read_bytes().count(b"\n")

    def once_slow(vector: np.ndarray) -> float:
        if not first.exists() and lines() == 6:
            first.touch()
            give_up = time.monotonic() + 60
            while lines() < 30 and time.monotonic() < give_up:
                time.sleep(0.005)  # until the other worker has evaluated so many more
        return objective(vector)

    pool = RayPool(once_slow, 2)
    try:
        run_search(None, seeds(count=4), ASYNC, history_path=tmp_path / "h.jsonl", key="net", pool=pool)
    finally:
        pool.close()
    order = [line["candidate"] for line in timeless(tmp_path / "h.jsonl")[1:]]
    # Two workers may also swap neighbours; the slow candidate is the one that comes latest behind its number.
    slow = max(range(len(order)), key=lambda position: position - order[position])
    assert order[slow] < 8 and slow > order[slow] + 20
