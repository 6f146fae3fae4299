"""The workers of a RayPool: they are started when the cluster has room, and restarted when they die."""

from __future__ import annotations

import math
import os
import re
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayError, RayTaskError

from ..errors import SearchError
from .ray_actor import Actor, Worker

DOWN_SECONDS = 300.0  # longest time without any worker: a cluster that starts machines on demand needs minutes
POLL_SECONDS = 2.0  # between two queries of the cluster's size, each of which takes 0.3 ms
RETRY_SECONDS = 0.1  # before an actor that did not answer is pinged again
SINGLE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


class RayWorkers:
    """The workers of one pool, each of which takes one CPU and `gpus` GPUs; iteration goes over all of them.

    `count` is their number; None means as many as the cluster has room for, now and after nodes have joined.

    Raises:
        SearchError: there is no room for a single worker.
    """

    def __init__(self, objective_ref: list[Any], count: int | None, gpus: float) -> None:
        self._objective_ref, self._count, self._gpus = objective_ref, count, gpus
        self._workers: list[Worker] = []
        self._resized_at = -POLL_SECONDS
        self._down_since: float | None = None
        self._problem = ""
        self.seconds = math.inf  # estimated time of an evaluation, rather too high than too low; infinite if unknown
        _check_room(count, gpus)

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers)

    @property
    def up(self) -> list[Worker]:
        """The workers that can evaluate now."""
        return [worker for worker in self._workers if worker.up]

    def wait_for_first(self) -> None:
        """Wait until a worker has loaded the objective.

        Raises:
            SearchError: a worker cannot load the objective, or none has come up for too long.
        """
        while not self.up:
            pings = self.poll()
            if pings:
                self.receive_pings(ray.wait(pings, num_returns=1, timeout=POLL_SECONDS)[0])
            else:
                time.sleep(RETRY_SECONDS)
            if self._problem:
                raise SearchError(self._problem)
            self.check_alive()

    def poll(self) -> list[Any]:
        """Add workers if the cluster has grown, ping those that are due, and return the references of all pings."""
        now = time.monotonic()
        if now - self._resized_at >= POLL_SECONDS and (self._count is None or not self._workers):
            self._resized_at = now
            for _ in range(len(self._workers), max(1, self._count or _room(self._gpus))):
                self._workers.append(Worker(self._start_actor(), self._objective_ref))
        for worker in self._workers:
            if not worker.up and not worker.unusable and worker.pending_ping is None and now >= worker.ping_at:
                worker.ping()
        return [worker.pending_ping for worker in self._workers if worker.pending_ping is not None]

    def receive_pings(self, ready: Iterable[Any]) -> None:
        """Read the answers to pings among the finished calls `ready`."""
        answered = set(ready)
        for worker in [worker for worker in self._workers if worker.pending_ping in answered]:
            answer, worker.pending_ping = worker.pending_ping, None
            try:
                worker.node, incarnation = ray.get(answer)
            except RayError as error:
                self._handle_failed_ping(worker, error)
                continue
            if incarnation == worker.incarnation and worker.killed:
                worker.ping()  # the answer was given before this incarnation was killed
            else:
                worker.up, worker.incarnation, worker.killed = True, incarnation, False

    def record_seconds(self, seconds: float) -> None:
        """Update the estimate of an evaluation's time: it rises at once and falls by a moving average."""
        self.seconds = seconds if math.isinf(self.seconds) else max(seconds, 0.8 * self.seconds + 0.2 * seconds)

    def check_alive(self) -> None:
        """Refuse to go on without workers.

        Raises:
            SearchError: no worker has been up for too long, or none of them can load the objective.
        """
        if self.up:
            self._down_since = None
            return
        if self._workers and all(worker.unusable for worker in self._workers):
            raise SearchError(self._problem)
        now = time.monotonic()
        self._down_since = self._down_since or now
        if now - self._down_since > DOWN_SECONDS:
            raise SearchError(
                f"no Ray worker has been up for {DOWN_SECONDS:g} seconds\n"
                f"{len(self._workers)} wait for 1 CPU and {self._gpus:g} GPU each; the cluster has {_cluster_size()}\n"
                "add a node or end what else runs there, then resume; what was evaluated is kept"
            )

    def close(self) -> None:
        """End the workers."""
        if ray.is_initialized():
            for worker in self._workers:
                ray.kill(worker.actor)
        self._workers = []

    def _start_actor(self) -> Any:
        actor: Any = ray.remote(Actor).options(
            num_cpus=1,
            num_gpus=self._gpus,
            max_restarts=-1,
            max_task_retries=0,
            runtime_env={"env_vars": SINGLE_THREAD | _python_path()},
        )
        return actor.remote()

    def _handle_failed_ping(self, worker: Worker, error: RayError) -> None:
        """Ping the worker again later, or mark it as unusable if it runs but cannot load the objective."""
        if not isinstance(error, RayTaskError) and not getattr(error, "actor_init_failed", False):
            restarting = isinstance(error, ActorUnavailableError | OutOfMemoryError)
            worker.ping_at = time.monotonic() + (RETRY_SECONDS if restarting else POLL_SECONDS)
            if not restarting:  # Ray does not restart this actor
                worker.actor = self._start_actor()
            return
        worker.unusable = True
        self._problem = _loading_problem(error)
        if self.up:
            warnings.warn(self._problem, stacklevel=2)


def _check_room(count: int | None, gpus: float) -> None:
    """Refuse workers of which not one fits. If some of them fit, the others wait for nodes to join."""
    if _room(gpus) >= 1:
        return
    wanted = f"{count or 'any'} workers of 1 CPU and {gpus:g} GPU"
    if _trial_bundles() is not None:
        raise SearchError(
            f"{wanted} do not fit into the placement group of this trial\n"
            f"it has {_trial_bundles()}, of which the trial itself takes {_assigned_resources()}\n"
            "reserve a bundle a worker: PlacementGroupFactory([{'CPU': 1}] + [{'CPU': 1}] * workers)"
        )
    raise SearchError(
        f"{wanted} do not fit into the Ray cluster, not even one\n"
        f"it has {_cluster_size()}\n"
        "add a node with room, or ask for a smaller share of a GPU"
    )


def _room(gpus: float) -> int:
    """Number of workers that fit into the placement group of this trial, or into the cluster if there is none."""
    bundles = _trial_bundles()
    if bundles is None:
        return _workers_that_fit(_cluster_resources(), gpus)
    own = _assigned_resources()
    total = {kind: sum(bundle.get(kind, 0.0) for bundle in bundles) - own.get(kind, 0.0) for kind in ("CPU", "GPU")}
    return _workers_that_fit(total, gpus)


def _workers_that_fit(resources: dict[str, float], gpus: float) -> int:
    cpus = int(resources.get("CPU", 0))
    return min(cpus, int(resources.get("GPU", 0) / gpus + 1e-9)) if gpus else cpus


def _cluster_resources() -> dict[str, float]:
    return ray.cluster_resources()  # type: ignore[no-untyped-call]


def _cluster_size() -> str:
    resources = _cluster_resources()
    return f"{resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs in all"


def _trial_bundles() -> list[dict[str, float]] | None:
    """Bundles of the placement group in which Ray places this process's actors, as in a trial of Ray Tune, or None."""
    group = ray.util.get_current_placement_group()
    captured = group is not None and ray.get_runtime_context().should_capture_child_tasks_in_placement_group
    return group.bundle_specs if captured else None


def _assigned_resources() -> dict[str, float]:
    """Resources that this process's own task or actor takes."""
    return ray.get_runtime_context().get_assigned_resources()


def _python_path() -> dict[str, str]:
    """PYTHONPATH of the workers: the folders before those of installed packages, and that of this package.

    Folders behind installed packages stay behind them: a worker appends them when it loads the objective.
    """
    installed = (sys.prefix, sys.base_prefix)
    first = [os.path.abspath(entry) for entry in takewhile(lambda entry: not entry.startswith(installed), sys.path)]
    package = str(Path(__file__).parents[2])
    return {"PYTHONPATH": os.pathsep.join(first if package.startswith(installed) else dict.fromkeys([*first, package]))}


def _loading_problem(error: RayError) -> str:
    """Message for a worker that cannot load the objective."""
    module = re.search(r"No module named '([^']+)'", str(error))
    if module is None:
        return (
            "a worker could not load the objective\n"
            f"{last_line(error)}\n"
            "it must be able to come up in a new process on every node: see the whole error in the worker's log"
        )
    return (
        "a worker could not load the objective\n"
        f"there is no module {module[1]!r} on its node\n"
        "install its package on every node, or ship it with the job's runtime environment (working_dir or py_modules)"
    )


def last_line(error: Exception) -> str:
    """The last line of an error's message: after a remote traceback, this is the error itself."""
    return str(error).strip().splitlines()[-1]
