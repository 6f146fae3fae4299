"""Evaluation in this process and on Ray actors."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from search import LocalPool, RayPool, SearchError


def moody(vector: np.ndarray) -> float | tuple[float, dict[str, float]]:
    """Fails in every way that the first coordinate asks for."""
    mood = int(vector[0])
    if mood == 1:
        raise ValueError("no such network")
    if mood in (2, 3, 4):
        return (0.0, float("nan"), float("inf"), -float("inf"))[mood - 1]
    vector += 1.0
    return float(vector.sum()), {"accuracy": 0.25}


MOODS = [np.array([float(mood), 1.0]) for mood in range(6)]
EXPECTED = [
    (3.0, None),
    (None, "ValueError: no such network"),
    (None, "the loss is nan"),
    (None, "the loss is inf"),
    (None, "the loss is -inf"),
    (8.0, None),
]


def test_local_failures_are_recorded():
    done = LocalPool(moody).evaluate(MOODS)
    assert [(one.loss, one.error) for one in done] == EXPECTED
    assert done[0].metrics == {"accuracy": 0.25}
    assert MOODS[0].tolist() == [0.0, 1.0]  # the objective works on a copy
    assert LocalPool(lambda v: "worst").evaluate([np.zeros(1)])[0].error.startswith("ValueError: could not convert")


def test_one_thread_while_evaluating():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert LocalPool(lambda v: float(torch.get_num_threads())).evaluate([np.zeros(1)])[0].loss == 1.0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_interrupt_is_not_a_failure():
    def interrupted(vector: np.ndarray) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LocalPool(interrupted).evaluate([np.zeros(1)])


def test_ray_pool(ray_cluster, tmp_path: Path):
    killed_once = tmp_path / "killed"

    def objective(vector: np.ndarray) -> float:
        if vector[0] == 7.0 and not killed_once.exists():
            killed_once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if vector[0] == 8.0:
            time.sleep(0.2)  # finished after its successors
        return moody(vector)

    pool = RayPool(objective, workers=2)
    try:
        assert [(one.loss, one.error) for one in pool.evaluate(MOODS)] == EXPECTED
        vectors = [np.array([mood, 0.0]) for mood in (8.0, 9.0, 7.0, 10.0, 11.0)]
        assert [one.loss for one in pool.evaluate(vectors)] == [10.0, 11.0, 9.0, 12.0, 13.0]
        stream = pool.stream(vectors)
        assert next(stream).loss == 10.0
        stream.close()  # calls of an abandoned stream do not reach the next
        assert [one.loss for one in pool.evaluate(vectors[::-1])] == [13.0, 12.0, 9.0, 11.0, 10.0]
    finally:
        pool.close()


def test_a_vector_that_kills_its_worker(ray_cluster):
    def objective(vector: np.ndarray) -> float:
        if vector[0] == 1.0:
            os.kill(os.getpid(), signal.SIGKILL)
        return float(vector[0])

    pool = RayPool(objective, workers=1, attempts=2)
    try:
        done = pool.evaluate([np.array([0.0]), np.array([1.0]), np.array([2.0])])
    finally:
        pool.close()
    assert [one.loss for one in done] == [0.0, None, 2.0]
    assert done[1].error is not None and done[1].error.startswith("the worker died 2 times: ")


def test_ray_pool_refusals(ray_cluster):
    with pytest.raises(SearchError, match="a Ray pool of 0 workers\n"):
        RayPool(moody, workers=0)
    with pytest.raises(
        SearchError, match=r"64 workers of 1 CPU and 0 GPU do not fit into the Ray cluster\nit has 2 CPUs"
    ):
        RayPool(moody, workers=64)
    lock = threading.Lock()
    with pytest.raises(SearchError, match=r"cannot be sent to a worker\n"):
        RayPool(lambda vector: float(lock.locked()), workers=1)
