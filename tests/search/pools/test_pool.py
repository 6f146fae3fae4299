"""Evaluation in this process and on Ray actors."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray_pools import all_up, numbers, opened

from search import LocalPool, SearchError
from search.pools import local
from search.pools.many import evaluate_many
from search.pools.pool import Evaluation, Request, evaluate, in_order


def failing(vector: np.ndarray) -> float | tuple[float, dict[str, float]]:
    """The first coordinate chooses the kind of failure: 1 raises, 2 to 4 return NaN or infinity, others succeed."""
    kind = int(vector[0])
    if kind == 1:
        raise ValueError("no such network")
    if kind in (2, 3, 4):
        return (0.0, float("nan"), float("inf"), -float("inf"))[kind - 1]
    vector += 1.0
    return float(vector.sum()), {"accuracy": 0.25}


KINDS = [np.array([float(kind), 1.0]) for kind in range(6)]
EXPECTED = [
    (3.0, None),
    (None, "ValueError: no such network"),
    (None, "the loss is nan"),
    (None, "the loss is inf"),
    (None, "the loss is -inf"),
    (8.0, None),
]


class Grouped:
    """`many` returns sums, with the size of the group as a metric. A vector that begins with 7 makes its group fail."""

    def __call__(self, vector: np.ndarray) -> float:
        return -1.0

    def look(self, vector: np.ndarray, share: float, carry: Any) -> tuple[float, dict[str, float], str]:
        return share, {}, "carried"

    def many(self, vectors: np.ndarray) -> list[Any]:
        if (vectors[:, 0] == 7.0).any():
            raise ValueError("a bad one")
        return [(float(row.sum()), {"rows": float(len(vectors)), "of": float(vectors.sum())}) for row in vectors]


def test_local_failures_are_recorded():
    done = evaluate(LocalPool(failing), KINDS)
    assert [(one.loss, one.error) for one in done] == EXPECTED
    assert done[0].metrics == {"accuracy": 0.25}
    assert KINDS[0].tolist() == [0.0, 1.0]  # the objective works on a copy
    assert evaluate(LocalPool(lambda _: "worst"), [np.zeros(1)])[0].error.startswith("ValueError: could not convert")


def test_one_thread_while_evaluating():
    import torch  # not at the top of the file, because workers import this file

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert evaluate(LocalPool(lambda _: float(torch.get_num_threads())), [np.zeros(1)])[0].loss == 1.0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_libraries_are_looked_for_again_when_modules_were_imported(monkeypatch):
    looks = []
    find = local.ThreadpoolController
    monkeypatch.setattr(local, "ThreadpoolController", lambda: looks.append(1) or find())
    pool = LocalPool(lambda _: 0.0)
    evaluate(pool, numbers(1.0))
    evaluate(pool, numbers(1.0))
    assert len(looks) == 1
    monkeypatch.setitem(sys.modules, "just_imported", types.ModuleType("just_imported"))
    evaluate(pool, numbers(1.0))
    assert len(looks) == 2


def test_interrupt_is_not_a_failure():
    def interrupted(_: np.ndarray) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(LocalPool(interrupted), [np.zeros(1)])


def test_groups_are_padded_and_a_bad_one_fails_alone():
    vectors = numbers(1.0, 2.0, 3.0, 7.0, 5.0)
    requests = [Request(vector) for vector in vectors]
    first, second, third, bad, last = evaluate_many(Grouped(), requests, at_once=3)
    assert [first.loss, second.loss, third.loss] == [1.0, 2.0, 3.0]
    assert first.metrics == {"rows": 3.0, "of": 6.0}
    assert (bad.loss, bad.error) == (None, "ValueError: a bad one")
    assert (last.loss, last.metrics) == (5.0, {"rows": 3.0, "of": 15.0})
    alone = evaluate_many(Grouped(), requests[:1], at_once=3)[0]
    assert (alone.loss, alone.metrics) == (1.0, {"rows": 3.0, "of": 3.0})
    look = evaluate_many(Grouped(), [requests[0], Request(vectors[1], share=0.25), requests[2]], at_once=3)
    assert [one.loss for one in look] == [1.0, 0.25, 3.0] and look[1].carry == "carried"
    assert [one.loss for one in evaluate_many(Grouped(), requests, at_once=1)] == [-1.0] * 5


def test_a_group_with_too_few_results():
    objective = Grouped()
    objective.many = lambda _: [1.0]  # type: ignore[method-assign]
    done = evaluate_many(objective, [Request(np.zeros(1))] * 2, at_once=2)
    assert [one.error for one in done] == ["ValueError: many() returned 1 results for 2 vectors"] * 2


@pytest.mark.usefixtures("ray_cluster")
def test_ray_pool(tmp_path: Path):
    killed_once, last = tmp_path / "killed", tmp_path / "last"

    def objective(vector: np.ndarray) -> float:
        if vector[0] == 7.0 and not killed_once.exists():
            killed_once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if vector[0] == 12.0:
            last.touch()
        while vector[0] == 8.0 and not last.exists():
            time.sleep(0.005)  # finishes after its successors
        return failing(vector)

    with opened(objective, workers=2, at_once=4) as pool:  # without `many`, `at_once` has no effect
        all_up(pool, 2)
        assert [(one.loss, one.error) for one in evaluate(pool, KINDS)] == EXPECTED
        vectors = [np.array([kind, 0.0]) for kind in (8.0, 9.0, 10.0, 11.0, 12.0)]
        finished = list(pool.completed([Request(vector) for vector in vectors], ahead=0))
        assert [number for number, _ in finished].index(0) >= 3  # the last of the others may come back behind it
        assert {number: one.loss for number, one in finished} == dict(enumerate([10.0, 11.0, 12.0, 13.0, 14.0]))
        vectors = [np.array([kind, 0.0]) for kind in (8.0, 9.0, 7.0, 10.0, 11.0)]
        assert [one.loss for one in evaluate(pool, vectors)] == [10.0, 11.0, 9.0, 12.0, 13.0]
        stream = in_order(pool, [Request(vector) for vector in vectors])
        assert next(stream).loss == 10.0
        stream.close()  # results of a closed stream do not reach the next one
        assert [one.loss for one in evaluate(pool, vectors[::-1])] == [13.0, 12.0, 9.0, 11.0, 10.0]
    with pytest.raises(SearchError, match="^the Ray pool is closed\n.*\nmake a new one$"):
        evaluate(pool, vectors)


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.usefixtures("ray_cluster")
def test_requests_are_taken_when_there_is_room(ahead: int):
    """The iterator of requests is endless and depends on the evaluations that were yielded."""
    given: list[float] = []
    taken = 0

    def requests() -> Iterator[Request]:
        nonlocal taken
        for taken in itertools.count(1):
            assert taken - len(given) <= pool.size * (1 + ahead)
            yield Request(np.array([float(sum(given) == 0.0)]))

    with opened(lambda vector: float(vector[0]), workers=2) as pool:
        all_up(pool, 2)
        stream = pool.completed(requests(), ahead=ahead)
        for _ in range(50):
            given.append(next(stream)[1].loss)
        stream.close()
        assert 1.0 <= sum(given) <= 2 * (1 + ahead)  # requests that had been sent when the first evaluation came back
        assert list(pool.completed(iter([]))) == []


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_others_go_on_while_a_worker_restarts(tmp_path: Path):
    killed_once, seen = tmp_path / "killed", []

    def objective(vector: np.ndarray) -> tuple[float, dict[str, float]]:
        if vector[0] == 50.0 and not killed_once.exists():
            killed_once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)
        return float(vector[0]), {"process": float(os.getpid())}

    def requests() -> Iterator[Request]:
        """Go on until a third process has answered, however long its start takes."""
        for number in range(10_000):
            if len(set(seen)) == 3:
                return
            yield Request(np.array([float(number)]))

    with opened(objective, workers=2) as pool:
        all_up(pool, 2)
        done = []
        for _, one in pool.completed(requests()):
            done.append(one)
            seen.append(one.metrics["process"])
    assert sorted(one.loss for one in done) == [float(number) for number in range(len(done))]
    replaced_after = seen.index(list(dict.fromkeys(seen))[2])
    assert replaced_after > 50 + 5  # the other worker went on while it restarted


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_vector_that_kills_its_worker():
    def objective(vector: np.ndarray) -> float:
        if vector[0] == 1.0:
            os.kill(os.getpid(), signal.SIGKILL)
        return float(vector[0])

    with opened(objective, workers=1, attempts=2) as pool:
        done = evaluate(pool, numbers(0.0, 1.0, 2.0))
    assert [one.loss for one in done] == [0.0, None, 2.0]
    assert done[1].error is not None and done[1].error.startswith("the worker died 2 times: ")


@pytest.mark.usefixtures("ray_cluster")
def test_timeout():
    def objective(vector: np.ndarray) -> tuple[float, dict[str, float]]:
        time.sleep(120.0 * (vector[0] == 1.0))
        return float(vector[0]), {"process": float(os.getpid())}

    with opened(objective, workers=2, timeout=1.5) as pool:
        all_up(pool, 2)
        done = evaluate(pool, numbers(0.0, 1.0, 2.0, 3.0, 4.0))
        assert [one.loss for one in done] == [0.0, None, 2.0, 3.0, 4.0]
        assert (done[1].error, 1.5 <= done[1].seconds < 60.0) == ("timed out after 1.5 s", True)
        stream = pool.completed([Request(vector) for vector in numbers(0.0, 5.0)])
        next(stream)
        time.sleep(1.6)  # the time that the caller takes does not count
        assert next(stream)[1].loss is not None
        all_up(pool, 2)  # the killed worker has been restarted


@pytest.mark.usefixtures("ray_cluster")
def test_lack_of_memory_is_tried_again(tmp_path: Path):
    def objective(vector: np.ndarray) -> float:
        tries = tmp_path / str(int(vector[0]))
        tries.write_text((tries.read_text() if tries.exists() else "") + ".")
        if vector[0] == 2.0 or (vector[0] == 1.0 and len(tries.read_text()) < 3):
            raise MemoryError("too much")
        return float(vector[0])

    with opened(objective, workers=1, attempts=3) as pool:
        done = evaluate(pool, numbers(0.0, 1.0, 2.0, 3.0))
    assert [one.loss for one in done] == [0.0, 1.0, None, 3.0]
    assert done[2].error == "MemoryError: too much (tried 3 times)"
    # On a busy machine Ray may lose the answer of a worker, whose candidate is then evaluated once more.
    tries = [len((tmp_path / name).read_text()) for name in "0123"]
    assert all(made >= least for made, least in zip(tries, [1, 3, 3, 1], strict=True))


@pytest.mark.usefixtures("ray_cluster")
def test_groups_in_workers():
    vectors = numbers(1.0, 2.0, 3.0, 7.0, 5.0, 6.0, 8.0)
    expected = evaluate_many(Grouped(), [Request(vector) for vector in vectors], at_once=4)
    here = evaluate(LocalPool(Grouped(), at_once=4), vectors)
    assert [(one.loss, one.metrics, one.error) for one in here] == [
        (one.loss, one.metrics, one.error) for one in expected
    ]
    with opened(Grouped(), workers=1, at_once=4) as pool:
        done = evaluate(pool, vectors)
        assert [(one.loss, one.metrics, one.error) for one in done] == [
            (one.loss, one.metrics, one.error) for one in expected
        ]
        look = list(in_order(pool, [Request(vectors[0], share=0.5), Request(vectors[1])]))
        assert [(one.loss, one.carry) for one in look] == [(0.5, "carried"), (2.0, None)]


@pytest.mark.usefixtures("ray_cluster")
def test_quick_evaluations_share_calls():
    """The results are the same, with fewer calls of a worker."""

    def objective(vector: np.ndarray) -> tuple[float, dict[str, float]]:
        if vector[0] == 700.0 and not np.isnan(vector).any():
            raise ValueError("no")
        return float(vector[0]), {"call": float(int(ray.get_runtime_context().get_task_id()[:12], 16))}

    vectors = numbers(*map(float, range(1500)))
    with opened(objective, workers=2) as pool:
        all_up(pool, 2)
        evaluate(pool, vectors[:100])
        done = evaluate(pool, vectors)
    assert [one.loss for one in done] == [None if number == 700 else float(number) for number in range(1500)]
    calls = Counter(one.metrics["call"] for one in done if one.loss is not None)
    assert max(calls.values()) > 1
    assert len(calls) < len(vectors) - 1


@pytest.mark.usefixtures("ray_cluster")
def test_a_result_that_cannot_be_pickled():
    class Carrying:
        def __call__(self, vector: np.ndarray) -> float:
            return 0.0

        def look(self, vector: np.ndarray, share: float, carry: Any) -> tuple[float, dict[str, float], Any]:
            return 1.0, {}, threading.Lock() if vector[0] else None

    with opened(Carrying(), workers=1) as pool:
        done = list(in_order(pool, [Request(vector, share=0.5) for vector in numbers(0.0, 1.0, 0.0)]))
    assert [one.loss for one in done] == [1.0, None, 1.0]
    assert done[1].error is not None and done[1].error.startswith("the worker could not evaluate: ")


def test_evaluations_are_not_shared():
    assert Evaluation(1.0).metrics is not Evaluation(1.0).metrics
