"""A search whose workers and driver are killed twenty times ends with the history of an undisturbed one."""

from __future__ import annotations

import importlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

KILLS = 20
EVALUATIONS = 600
DRIVER = f"""
import os, sys, time
from pathlib import Path
import numpy as np
from search import Budget, Population, RayPool, SearchSettings, run_search

class Objective:
    def __init__(self, pids, delay):
        self.pids, self.delay = pids, delay

    def __call__(self, vector):
        if self.pids is not None:
            (self.pids / str(os.getpid())).touch()
        time.sleep(self.delay)
        return float(((vector - 0.2) ** 2).sum()), {{"first": float(vector[0])}}

def run(path, pids, delay, workers):
    objective = Objective(pids, delay)
    seeds = Population(np.random.default_rng(0).normal(size=(10, 8)), ["drawn"] * 10)
    settings = SearchSettings(batch=8, budget=Budget(evaluations={EVALUATIONS}))
    pool = RayPool(objective, workers) if workers else None
    return run_search(objective, seeds, settings, history_path=path, key="net", pool=pool)

if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), 0.05, 2)
"""


def kill_one(pids: Path, rng: random.Random) -> bool:
    """Kill a worker. Return False if none is known, or if the chosen one has ended with its killed driver."""
    known = sorted(int(pid.name) for pid in pids.iterdir())
    if not known:
        return False
    chosen = rng.choice(known)
    (pids / str(chosen)).unlink()
    try:
        os.kill(chosen, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_twenty_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timeless) -> None:
    script, history, pids = tmp_path / "kills_driver.py", tmp_path / "history.jsonl", tmp_path / "pids"
    script.write_text(DRIVER)
    pids.mkdir()
    rng = random.Random(20)
    # The kills are spread over the run, so that none comes after its end; a third of them hit the driver.
    moments = sorted(rng.sample(range(15, EVALUATIONS - 20), KILLS))
    victims = ["driver"] * 6 + ["worker"] * (KILLS - 6)
    rng.shuffle(victims)

    def started() -> subprocess.Popen[bytes]:
        for pid in pids.iterdir():
            pid.unlink()
        return subprocess.Popen([sys.executable, str(script), str(history), str(pids)])

    def recorded() -> int:
        return history.read_bytes().count(b"\n") if history.exists() else 0

    driver = started()
    killed = 0
    try:
        for moment, victim in zip(moments, victims, strict=True):
            until = time.monotonic() + 120
            while recorded() < moment:
                assert driver.poll() is None and time.monotonic() < until
                time.sleep(0.01)
            if victim == "driver":
                driver.kill()
                driver.wait()
                driver = started()
            else:
                while not kill_one(pids, rng):
                    assert driver.poll() is None and time.monotonic() < until
                    time.sleep(0.01)
            killed += 1
        assert driver.wait(timeout=300) == 0
    finally:
        driver.kill()
    assert killed == KILLS
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("kills_driver").run(tmp_path / "undisturbed.jsonl", None, 0.0, 0)
    lines = timeless(history)
    assert len(lines) == EVALUATIONS + 1 and [line["index"] for line in lines[1:]] == list(range(EVALUATIONS))
    assert lines == timeless(tmp_path / "undisturbed.jsonl")
