"""The workers of a RayPool: they come up when the cluster has room, and restart when they die."""

from __future__ import annotations

import math
import os
import re
import sys
import time
import warnings
from collections.abc import Iterable
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayError, RayTaskError

from ..errors import SearchError
from .ray_actor import Actor, Worker

UP_SECONDS = 300.0  # without a worker: a cluster that starts machines on demand needs minutes
LOOK_SECONDS = 2.0  # between looks at the cluster's size; one takes .3 ms
PAUSE_SECONDS = 0.1  # before an actor that did not answer is asked again
SINGLE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


class Crew:
    """`count` workers of one CPU and `gpus` GPUs each; None for as many as the cluster has room for, now and later.

    Raises:
        SearchError: no worker can come up.
    """

    def __init__(self, held: list[Any], count: int | None, gpus: float) -> None:
        self._held, self._count, self._gpus = held, count, gpus
        self._looked = -LOOK_SECONDS
        self._down_since: float | None = None
        self._problem = ""
        self.workers: list[Worker] = []
        self.seconds = math.inf  # that the objective takes: about, and rather too high
        _check_room(count, gpus)

    @property
    def up(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.up]

    def await_first(self) -> None:
        """Until one worker has loaded the objective."""
        while not self.up:
            hellos = self.tend()
            if hellos:
                self.hear(ray.wait(hellos, num_returns=1, timeout=LOOK_SECONDS)[0])
            else:
                time.sleep(PAUSE_SECONDS)
            if self._problem:
                raise SearchError(self._problem)
            self.check()

    def tend(self) -> list[Any]:
        """Grow with the cluster and ask the silent again; returns the calls that wait for workers to come up."""
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS and (self._count is None or not self.workers):
            self._looked = now
            for _ in range(len(self.workers), max(1, self._count or _room(self._gpus))):
                self.workers.append(Worker(self._actor(), self._held))
        for worker in self.workers:
            if not worker.up and not worker.lost and worker.hello is None and now >= worker.greet_at:
                worker.greet()
        return [worker.hello for worker in self.workers if worker.hello is not None]

    def hear(self, ready: Iterable[Any]) -> None:
        """Take the answers among the finished calls."""
        answered = set(ready)
        for worker in [worker for worker in self.workers if worker.hello in answered]:
            answer, worker.hello = worker.hello, None
            try:
                worker.node, life = ray.get(answer)
            except RayError as error:
                self._unanswered(worker, error)
                continue
            if life == worker.life and worker.killed:
                worker.greet()  # from before its end
            else:
                worker.up, worker.life, worker.killed = True, life, False

    def note(self, seconds: float) -> None:
        """How long an evaluation took. A slow one among quick ones counts for long."""
        self.seconds = seconds if math.isinf(self.seconds) else max(seconds, 0.8 * self.seconds + 0.2 * seconds)

    def check(self) -> None:
        """Raise if there has been no worker for too long, or if none can come."""
        if self.up:
            self._down_since = None
            return
        if self.workers and all(worker.lost for worker in self.workers):
            raise SearchError(self._problem)
        now = time.monotonic()
        self._down_since = self._down_since or now
        if now - self._down_since > UP_SECONDS:
            raise SearchError(
                f"no Ray worker has been up for {UP_SECONDS:g} seconds\n"
                f"{len(self.workers)} wait for 1 CPU and {self._gpus:g} GPU each; {_free()}\n"
                "add a node or end what else runs there, then resume; what was evaluated is kept"
            )

    def close(self) -> None:
        """End the workers."""
        if ray.is_initialized():
            for worker in self.workers:
                ray.kill(worker.actor)
        self.workers = []

    def _actor(self) -> Any:
        actor: Any = ray.remote(Actor).options(
            num_cpus=1,
            num_gpus=self._gpus,
            max_restarts=-1,
            max_task_retries=0,
            runtime_env={"env_vars": SINGLE_THREAD | _python_path()},
        )
        return actor.remote()

    def _unanswered(self, worker: Worker, error: RayError) -> None:
        """It is restarting or waits for room; or it came up and is of no use."""
        if not isinstance(error, RayTaskError) and not getattr(error, "actor_init_failed", False):
            passing = isinstance(error, ActorUnavailableError | OutOfMemoryError)
            worker.greet_at = time.monotonic() + (PAUSE_SECONDS if passing else LOOK_SECONDS)
            if not passing:  # Ray does not restart this one
                worker.actor = self._actor()
            return
        worker.lost = True
        self._problem = _cannot_load(error)
        if self.up:
            warnings.warn(self._problem, stacklevel=2)


def _check_room(count: int | None, gpus: float) -> None:
    """Refuse what no worker fits into. Where some fit, the others wait for nodes to join."""
    if _room(gpus) >= 1:
        return
    wanted = f"{count or 'any'} workers of 1 CPU and {gpus:g} GPU"
    if _trial_bundles() is not None:
        raise SearchError(
            f"{wanted} do not fit into the placement group of this trial\n"
            f"it has {_trial_bundles()}, of which the trial itself takes {_own()}\n"
            "reserve a bundle a worker: PlacementGroupFactory([{'CPU': 1}] + [{'CPU': 1}] * workers)"
        )
    has = _cluster()
    raise SearchError(
        f"{wanted} do not fit into the Ray cluster, not even one\n"
        f"it has {has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs in all\n"
        "add a node with room, or ask for a smaller share of a GPU"
    )


def _room(gpus: float) -> int:
    """How many workers fit where they would be placed: in the trial's placement group, or else in the cluster."""
    bundles = _trial_bundles()
    if bundles is None:
        return _fit(_cluster(), gpus)
    total = {kind: sum(bundle.get(kind, 0.0) for bundle in bundles) - _own().get(kind, 0.0) for kind in ("CPU", "GPU")}
    return _fit(total, gpus)


def _fit(has: dict[str, float], gpus: float) -> int:
    cpus = int(has.get("CPU", 0))
    return min(cpus, int(has.get("GPU", 0) / gpus + 1e-9)) if gpus else cpus


def _cluster() -> dict[str, float]:
    return ray.cluster_resources()  # type: ignore[no-untyped-call]


def _trial_bundles() -> list[dict[str, float]] | None:
    """Of the placement group that this process's actors are placed in, as in a trial of Ray Tune; None without one."""
    group = ray.util.get_current_placement_group()
    captured = group is not None and ray.get_runtime_context().should_capture_child_tasks_in_placement_group
    return group.bundle_specs if captured else None


def _own() -> dict[str, float]:
    return ray.get_runtime_context().get_assigned_resources()


def _free() -> str:
    has = _cluster()
    return f"the cluster has {has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs in all"


def _python_path() -> dict[str, str]:
    """What this process can import beside its installed packages, the workers can import, too."""
    installed = (sys.prefix, sys.base_prefix)
    own = [os.path.abspath(entry) for entry in sys.path if not entry.startswith(installed)]
    return {"PYTHONPATH": os.pathsep.join(own)}


def _cannot_load(error: RayError) -> str:
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
    """What an error says at its end."""
    return str(error).strip().splitlines()[-1]
