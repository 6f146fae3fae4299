"""Workers of a Ray pool: where they are placed, how many there is room for, and pools that are refused."""

from __future__ import annotations

import os
import sys
import threading
import types
from typing import Any

import numpy as np
import pytest
import ray
from ray_pools import all_up, numbers, opened

from search import RayPool, SearchError, evaluate


def first_coordinate(vector: np.ndarray) -> float:
    return float(vector[0])


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_in_a_placement_group():
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
                    with opened(first_coordinate, workers=workers) as pool:
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


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_more_workers_than_room():
    with opened(first_coordinate, workers=5) as pool:
        all_up(pool, 2)  # the others wait for nodes to join
        assert [one.loss for one in evaluate(pool, numbers(1.0, 2.0, 3.0))] == [1.0, 2.0, 3.0]
    with opened(first_coordinate, workers=None) as pool:
        all_up(pool, 2)


def refusal(*arguments: Any, **named: Any) -> str:
    with pytest.raises(SearchError) as refused:
        RayPool(*arguments, **named)
    message = str(refused.value)
    assert len(message.splitlines()) == 3
    return message


@pytest.mark.usefixtures("ray_cluster")
def test_ray_pool_refusals(monkeypatch: pytest.MonkeyPatch):
    assert refusal(first_coordinate, workers=0) == (
        "a Ray pool of 0 workers\nat least one must evaluate\nuse LocalPool to evaluate in this process"
    )
    assert refusal(first_coordinate, 1, timeout=0.0) == (
        "a Ray pool with a timeout of 0 seconds\nno candidate could be evaluated\n"
        "give the seconds that one candidate may take, or None for no limit"
    )
    assert refusal(first_coordinate, 1, attempts=0) == (
        "a Ray pool with 0 attempts and 1 candidates at once\nboth count from 1\nleave them out for the defaults"
    )
    assert refusal(first_coordinate, 2, gpus=0.5) == (
        "2 workers of 1 CPU and 0.5 GPU do not fit into the Ray cluster, not even one\n"
        "it has 2 CPUs and 0 GPUs in all\nadd a node with room, or ask for a smaller share of a GPU"
    )
    lock = threading.Lock()
    assert refusal(lambda _: float(lock.locked()), workers=1).splitlines()[0].endswith("cannot be sent to a worker")
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
    assert refusal(Unprepared(), 1).splitlines()[1] == "ValueError: not on this node"


class Unprepared:
    def __call__(self, vector: np.ndarray) -> float:
        return 0.0

    def prepare(self) -> None:
        raise ValueError("not on this node")


class Unloadable:
    def __call__(self, vector: np.ndarray) -> float:
        return 0.0

    def __setstate__(self, state: Any) -> None:
        raise RuntimeError("no such file")

    def __getstate__(self) -> Any:
        return {"a": 1}


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_no_worker_for_long(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("search.pools.ray_workers.DOWN_SECONDS", 1.0)

    @ray.remote(num_cpus=2)
    class Hog:
        def ping(self) -> None:
            pass

    hog = Hog.remote()
    ray.get(hog.ping.remote())
    assert refusal(first_coordinate, 1) == (
        "no Ray worker has been up for 1 seconds\n"
        "1 wait for 1 CPU and 0 GPU each; the cluster has 2 CPUs and 0 GPUs in all\n"
        "add a node or end what else runs there, then resume; what was evaluated is kept"
    )
    ray.kill(hog)
