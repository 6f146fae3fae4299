"""Evaluation in this process and on Ray actors."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from search import LocalPool, RayPool, SearchError
from search.pools.many import evaluate_many
from search.pools.pool import Evaluation, Task, evaluate, in_order


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


class Grouped:
    """The sum, and how many were evaluated at once. A vector that begins with 7 spoils its whole group."""

    def __call__(self, vector: np.ndarray) -> float:
        return -1.0

    def look(self, vector: np.ndarray, share: float, carry: Any) -> tuple[float, dict[str, float], str]:
        return share, {}, "carried"

    def many(self, vectors: np.ndarray) -> list[Any]:
        if (vectors[:, 0] == 7.0).any():
            raise ValueError("a bad one")
        return [(float(row.sum()), {"rows": float(len(vectors)), "of": float(vectors.sum())}) for row in vectors]


@contextmanager
def opened(*arguments: Any, **named: Any) -> Iterator[RayPool]:
    pool = RayPool(*arguments, **named)
    try:
        yield pool
    finally:
        pool.close()


def numbers(*values: float) -> list[np.ndarray]:
    return [np.array([value]) for value in values]


def all_up(pool: RayPool, size: int) -> None:
    """Workers come up while a pool is in use."""
    until = time.monotonic() + 30.0
    while pool.size < size and time.monotonic() < until:
        evaluate(pool, numbers(0.0))
        time.sleep(0.05)
    assert pool.size == size


def test_local_failures_are_recorded():
    done = evaluate(LocalPool(moody), MOODS)
    assert [(one.loss, one.error) for one in done] == EXPECTED
    assert done[0].metrics == {"accuracy": 0.25}
    assert MOODS[0].tolist() == [0.0, 1.0]  # the objective works on a copy
    assert evaluate(LocalPool(lambda v: "worst"), [np.zeros(1)])[0].error.startswith("ValueError: could not convert")


def test_one_thread_while_evaluating():
    import torch  # not above: workers import this file

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert evaluate(LocalPool(lambda v: float(torch.get_num_threads())), [np.zeros(1)])[0].loss == 1.0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_interrupt_is_not_a_failure():
    def interrupted(vector: np.ndarray) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(LocalPool(interrupted), [np.zeros(1)])


def test_groups_are_padded_and_a_bad_one_fails_alone():
    vectors = numbers(1.0, 2.0, 3.0, 7.0, 5.0)
    tasks = [Task(vector) for vector in vectors]
    first, second, third, bad, last = evaluate_many(Grouped(), tasks, at_once=3)
    assert [first.loss, second.loss, third.loss] == [1.0, 2.0, 3.0]
    assert first.metrics == {"rows": 3.0, "of": 6.0}
    assert (bad.loss, bad.error) == (None, "ValueError: a bad one")
    assert (last.loss, last.metrics) == (5.0, {"rows": 3.0, "of": 15.0})
    alone = evaluate_many(Grouped(), tasks[:1], at_once=3)[0]
    assert (alone.loss, alone.metrics) == (1.0, {"rows": 3.0, "of": 3.0})
    look = evaluate_many(Grouped(), [tasks[0], Task(vectors[1], share=0.25), tasks[2]], at_once=3)
    assert [one.loss for one in look] == [1.0, 0.25, 3.0] and look[1].carry == "carried"
    assert [one.loss for one in evaluate_many(Grouped(), tasks, at_once=1)] == [-1.0] * 5


def test_a_group_with_too_few_results():
    objective = Grouped()
    objective.many = lambda vectors: [1.0]  # type: ignore[method-assign]
    done = evaluate_many(objective, [Task(np.zeros(1))] * 2, at_once=2)
    assert [one.error for one in done] == ["ValueError: many() returned 1 results for 2 vectors"] * 2


def test_ray_pool(ray_cluster, tmp_path: Path):
    killed_once = tmp_path / "killed"

    def objective(vector: np.ndarray) -> float:
        if vector[0] == 7.0 and not killed_once.exists():
            killed_once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if vector[0] == 8.0:
            time.sleep(0.3)  # finished after its successors
        return moody(vector)

    with opened(objective, workers=2, at_once=4) as pool:  # without `many`, the group means nothing
        all_up(pool, 2)
        assert [(one.loss, one.error) for one in evaluate(pool, MOODS)] == EXPECTED
        vectors = [np.array([mood, 0.0]) for mood in (8.0, 9.0, 10.0, 11.0, 12.0)]
        finished = list(pool.completed([Task(vector) for vector in vectors], ahead=0))
        assert [number for number, _ in finished][-1] == 0
        assert {number: one.loss for number, one in finished} == dict(enumerate([10.0, 11.0, 12.0, 13.0, 14.0]))
        vectors = [np.array([mood, 0.0]) for mood in (8.0, 9.0, 7.0, 10.0, 11.0)]
        assert [one.loss for one in evaluate(pool, vectors)] == [10.0, 11.0, 9.0, 12.0, 13.0]
        stream = in_order(pool, [Task(vector) for vector in vectors])
        assert next(stream).loss == 10.0
        stream.close()  # calls of an abandoned stream do not reach the next
        assert [one.loss for one in evaluate(pool, vectors[::-1])] == [13.0, 12.0, 9.0, 11.0, 10.0]
    with pytest.raises(SearchError, match="^the Ray pool is closed\n.*\nmake a new one$"):
        evaluate(pool, vectors)


@pytest.mark.parametrize("ahead", [0, 1])
def test_tasks_are_taken_when_there_is_room(ray_cluster, ahead: int):
    """An endless iterator that reacts to what was given out."""
    given: list[float] = []
    taken = 0

    def tasks() -> Iterator[Task]:
        nonlocal taken
        for taken in itertools.count(1):
            assert taken - len(given) <= pool.size * (1 + ahead)
            yield Task(np.array([float(sum(given) == 0.0)]))

    with opened(lambda vector: float(vector[0]), workers=2) as pool:
        all_up(pool, 2)
        stream = pool.completed(tasks(), ahead=ahead)
        for _ in range(50):
            given.append(next(stream)[1].loss)
        stream.close()
        assert 1.0 <= sum(given) <= 2 * (1 + ahead)  # as many as were out when the first came back
        assert list(pool.completed(iter([]))) == []


def test_others_go_on_while_a_worker_restarts(ray_cluster, tmp_path: Path):
    killed_once = tmp_path / "killed"

    def objective(vector: np.ndarray) -> tuple[float, dict[str, float]]:
        if vector[0] == 1.0 and not killed_once.exists():
            killed_once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)
        return float(vector[0]), {"process": float(os.getpid()), "at": time.time()}

    with opened(objective, workers=2) as pool:
        all_up(pool, 2)
        done = evaluate(pool, numbers(*map(float, range(150))))
    assert [one.loss for one in done] == [float(number) for number in range(150)]
    dead_from = killed_once.stat().st_mtime
    at = sorted(one.metrics["at"] for one in done)
    processes = [one.metrics["process"] for one in sorted(done, key=lambda one: one.metrics["at"])]
    assert len(set(processes)) <= 3  # the two, and the one that came after
    came = next((one for one, process in zip(at, processes, strict=True) if process == processes[-1]), at[-1])
    assert came > dead_from
    assert max(np.diff([one for one in at if one > dead_from])) < 0.5  # a restart takes a second or two


def test_a_vector_that_kills_its_worker(ray_cluster):
    def objective(vector: np.ndarray) -> float:
        if vector[0] == 1.0:
            os.kill(os.getpid(), signal.SIGKILL)
        return float(vector[0])

    with opened(objective, workers=1, attempts=2) as pool:
        done = evaluate(pool, numbers(0.0, 1.0, 2.0))
    assert [one.loss for one in done] == [0.0, None, 2.0]
    assert done[1].error is not None and done[1].error.startswith("the worker died 2 times: ")


def test_timeout(ray_cluster):
    def objective(vector: np.ndarray) -> tuple[float, dict[str, float]]:
        time.sleep(60.0 if vector[0] == 1.0 else 0.05)
        return float(vector[0]), {"process": float(os.getpid())}

    with opened(objective, workers=2, timeout=0.5) as pool:
        all_up(pool, 2)
        done = evaluate(pool, numbers(0.0, 1.0, 2.0, 3.0, 4.0))
        assert [one.loss for one in done] == [0.0, None, 2.0, 3.0, 4.0]
        assert (done[1].error, 0.5 <= done[1].seconds < 1.0) == ("timed out after 0.5 s", True)
        stream = pool.completed([Task(vector) for vector in numbers(0.0, 5.0)])
        next(stream)
        time.sleep(1.0)  # the caller's own time does not count
        assert next(stream)[1].loss is not None
        all_up(pool, 2)  # the killed one is back


def test_lack_of_memory_is_tried_again(ray_cluster, tmp_path: Path):
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
    assert [len((tmp_path / name).read_text()) for name in "0123"] == [1, 3, 3, 1]


def test_groups_in_workers(ray_cluster):
    vectors = numbers(1.0, 2.0, 3.0, 7.0, 5.0, 6.0, 8.0)
    expected = evaluate_many(Grouped(), [Task(vector) for vector in vectors], at_once=4)
    here = evaluate(LocalPool(Grouped(), at_once=4), vectors)
    assert [(one.loss, one.metrics, one.error) for one in here] == [
        (one.loss, one.metrics, one.error) for one in expected
    ]
    with opened(Grouped(), workers=1, at_once=4) as pool:
        done = evaluate(pool, vectors)
        assert [(one.loss, one.metrics, one.error) for one in done] == [
            (one.loss, one.metrics, one.error) for one in expected
        ]
        look = list(in_order(pool, [Task(vectors[0], share=0.5), Task(vectors[1])]))
        assert [(one.loss, one.carry) for one in look] == [(0.5, "carried"), (2.0, None)]


def test_quick_tasks_travel_together(ray_cluster):
    """Same results, in a fraction of the time."""

    def objective(vector: np.ndarray) -> float:
        if vector[0] == 700.0 and not np.isnan(vector).any():
            raise ValueError("no")
        return float(vector[0])

    vectors = numbers(*map(float, range(1500)))
    with opened(objective, workers=2) as pool:
        all_up(pool, 2)
        evaluate(pool, vectors[:100])
        begun = time.perf_counter()
        done = evaluate(pool, vectors)
        seconds = (time.perf_counter() - begun) / len(vectors)
    assert [one.loss for one in done] == [None if number == 700 else float(number) for number in range(1500)]
    assert seconds < 0.002  # about .1 ms where nothing else runs


def test_a_result_that_cannot_travel(ray_cluster):
    class Carrying:
        def __call__(self, vector: np.ndarray) -> float:
            return 0.0

        def look(self, vector: np.ndarray, share: float, carry: Any) -> tuple[float, dict[str, float], Any]:
            return 1.0, {}, threading.Lock() if vector[0] else None

    with opened(Carrying(), workers=1) as pool:
        done = list(in_order(pool, [Task(vector, share=0.5) for vector in numbers(0.0, 1.0, 0.0)]))
    assert [one.loss for one in done] == [1.0, None, 1.0]
    assert done[1].error is not None and done[1].error.startswith("the worker could not evaluate: ")


def test_in_a_placement_group(ray_cluster):
    """Workers of a pool inside a trial of Ray Tune are placed in the resources that the trial has reserved.

    The trial is an actor, as Tune's are. A plain Ray task would not do: Ray lends out the CPU of a task while the task
    waits for a result, so that a second worker may come up on it.
    """

    @ray.remote(num_cpus=1)
    class Trial:
        def run(self, *asked: int | None) -> list[Any]:
            answers: list[Any] = []
            for workers in asked:
                try:
                    with opened(lambda vector: float(vector[0]), workers=workers) as pool:
                        answers.append(([one.loss for one in evaluate(pool, numbers(1.0, 2.0))], pool.size))
                except SearchError as error:
                    answers.append(str(error))
            return answers

    def run(bundles: list[dict[str, float]], *asked: int | None) -> list[Any]:
        group = ray.util.placement_group(bundles)
        placed = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(
            group, placement_group_bundle_index=0, placement_group_capture_child_tasks=True
        )
        environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}}  # the trial must import this file
        try:
            trial = Trial.options(scheduling_strategy=placed, runtime_env=environment).remote()
            return ray.get(trial.run.remote(*asked), timeout=240)
        finally:
            ray.util.remove_placement_group(group)  # ends the trial, too

    assert run([{"CPU": 1}, {"CPU": 1}], 3, None) == [([1.0, 2.0], 1)] * 2
    assert run([{"CPU": 1}], 3) == [
        "3 workers of 1 CPU and 0 GPU do not fit into the placement group of this trial\n"
        "it has [{'CPU': 1.0}], of which the trial itself takes {'CPU': 1.0}\n"
        "reserve a bundle a worker: PlacementGroupFactory([{'CPU': 1}] + [{'CPU': 1}] * workers)"
    ]


def test_more_workers_than_room(ray_cluster):
    with opened(lambda vector: float(vector[0]), workers=5) as pool:
        all_up(pool, 2)  # the others wait for nodes to join
        assert [one.loss for one in evaluate(pool, numbers(1.0, 2.0, 3.0))] == [1.0, 2.0, 3.0]
    with opened(lambda vector: float(vector[0]), workers=None) as pool:
        all_up(pool, 2)


def refusal(*arguments: Any, **named: Any) -> str:
    with pytest.raises(SearchError) as refused:
        RayPool(*arguments, **named)
    message = str(refused.value)
    assert len(message.splitlines()) == 3
    return message


def test_ray_pool_refusals(ray_cluster, monkeypatch: pytest.MonkeyPatch):
    assert refusal(moody, workers=0) == (
        "a Ray pool of 0 workers\nat least one must evaluate\nuse LocalPool to evaluate in this process"
    )
    assert refusal(moody, 1, timeout=0.0) == (
        "a Ray pool with a timeout of 0 seconds\nno candidate could be evaluated\n"
        "give the seconds that one candidate may take, or None for no limit"
    )
    assert refusal(moody, 1, attempts=0) == (
        "a Ray pool with 0 attempts and 1 candidates at once\nboth count from 1\nleave them out for the defaults"
    )
    assert refusal(moody, 2, gpus=0.5) == (
        "2 workers of 1 CPU and 0.5 GPU do not fit into the Ray cluster, not even one\n"
        "it has 2 CPUs and 0 GPUs in all\nadd a node with room, or ask for a smaller share of a GPU"
    )
    lock = threading.Lock()
    assert (
        refusal(lambda vector: float(lock.locked()), workers=1).splitlines()[0].endswith("cannot be sent to a worker")
    )
    monkeypatch.setitem(sys.modules, "ghost", types.ModuleType("ghost"))
    exec("def objective(vector): return 0.0", sys.modules["ghost"].__dict__)
    assert refusal(sys.modules["ghost"].objective, 1) == (
        "a worker could not load the objective\nthere is no module 'ghost' on its node\n"
        "install its package on every node, or ship it with the job's runtime environment (working_dir or py_modules)"
    )
    assert refusal(Unloadable(), 1) == (
        "a worker could not load the objective\nRuntimeError: no such file\n"
        "it must be able to come up in a new process on every node: see the whole error in the worker's log"
    )


class Unloadable:
    def __call__(self, vector: np.ndarray) -> float:
        return 0.0

    def __setstate__(self, state: Any) -> None:
        raise RuntimeError("no such file")

    def __getstate__(self) -> Any:
        return {"a": 1}


def test_no_worker_for_long(ray_cluster, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("search.pools.ray_workers.UP_SECONDS", 1.0)

    @ray.remote(num_cpus=2)
    class Hog:
        def ping(self) -> None:
            pass

    hog = Hog.remote()
    ray.get(hog.ping.remote())
    assert refusal(moody, 1) == (
        "no Ray worker has been up for 1 seconds\n"
        "1 wait for 1 CPU and 0 GPU each; the cluster has 2 CPUs and 0 GPUs in all\n"
        "add a node or end what else runs there, then resume; what was evaluated is kept"
    )
    ray.kill(hog)


def test_evaluations_are_not_shared():
    assert Evaluation(1.0).metrics is not Evaluation(1.0).metrics
