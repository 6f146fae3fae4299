"""Evaluation on Ray actors that hold the objective once and are restarted when they die.

Ray's own task retries are off: a call that dies with its actor is sent again from here, so that it is known how often.
Actors run one call and have the next one waiting, which hides the time of travel.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Generator, Sequence
from typing import Any, Self

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError

from .errors import SearchError
from .pool import Evaluation, Objective, evaluate_one

CALLS_IN_FLIGHT = 2
REACH_SECONDS = 5.0
RESTART_SECONDS = 120.0  # a machine under load takes seconds to start a process; then its calls fail one by one
SINGLE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


class RaySession:
    """Starts Ray at most once, for several pools, and shuts down what it started at the end of the `with` block."""

    def __init__(self) -> None:
        self._started = False

    def start(self, workers: int, address: str | None = None) -> None:
        """Start Ray, or join the cluster at `address`, unless Ray is running already."""
        if not ray.is_initialized():
            _start_ray(workers, address)
            self._started = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._started and ray.is_initialized():
            ray.shutdown()
        self._started = False


class RayPool:
    """`workers` actors of one CPU each. Starts Ray if it is not running, and then shuts it down at `close`.

    `address` joins a running cluster; `gpus` is the share of a GPU that each worker takes; `attempts` is how
    often a candidate is sent out before the death of its worker is its own failure.

    Raises:
        SearchError: the cluster is too small, or the objective cannot be sent to a worker.
    """

    def __init__(
        self,
        objective: Objective,
        workers: int,
        address: str | None = None,
        *,
        gpus: float = 0.0,
        attempts: int = 4,  # a machine that is short of memory may kill the innocent twice
    ) -> None:
        if workers < 1:
            raise SearchError(
                f"a Ray pool of {workers} workers\nat least one must evaluate\nuse LocalPool to evaluate in this process"
            )
        self._attempts = attempts
        self._session = RaySession()
        self._session.start(workers, address)
        self._workers: list[Any] = []
        try:
            _check_cluster(workers, gpus)
            self._held = _hold(objective)
            self._workers = _start_workers(workers, gpus)
            _load(self._workers, self._held)
        except BaseException:
            self.close()
            raise

    def stream(self, vectors: Sequence[np.ndarray]) -> Generator[Evaluation, None, None]:
        """Yield one evaluation a vector, in the order asked, each as soon as it and all before it are finished."""
        waiting = deque(range(len(vectors)))
        tries = [0] * len(vectors)
        finished: dict[int, Evaluation] = {}
        queues: list[deque[tuple[Any, int]]] = [deque() for _ in self._workers]  # calls of each worker, oldest first
        given = 0
        while given < len(vectors):
            while waiting and (free := _free_worker(waiting[0], queues, tries)) is not None:
                index = waiting.popleft()
                queues[free].append((self._workers[free].evaluate.remote(self._held, vectors[index]), index))
            ray.wait([call for queue in queues for call, _ in queue], num_returns=1)
            for worker, queue in zip(self._workers, queues, strict=True):
                if _collect(queue, waiting, tries, self._attempts, finished):
                    _await_restart(worker)
            while given in finished:
                yield finished.pop(given)
                given += 1

    def evaluate(self, vectors: Sequence[np.ndarray]) -> list[Evaluation]:
        """All of `stream`."""
        return list(self.stream(vectors))

    def close(self) -> None:
        """End the workers, and Ray if this pool started it."""
        if ray.is_initialized():
            for worker in self._workers:
                ray.kill(worker)
        self._session.__exit__()
        self._workers = []


class _Worker:
    """Lives in the actor. Every call names the objective, because a restarted actor has lost it; it is fetched once."""

    def __init__(self) -> None:
        self._objective: Objective | None = None

    def ping(self) -> None:
        """Answers as soon as the actor lives."""

    def load(self, held: list[Any]) -> None:
        if self._objective is None:
            self._objective = ray.get(held[0])

    def evaluate(self, held: list[Any], vector: np.ndarray) -> Evaluation:
        self.load(held)
        assert self._objective is not None, "load() has set it"
        return evaluate_one(self._objective, vector)


def _free_worker(index: int, queues: list[deque[tuple[Any, int]]], tries: list[int]) -> int | None:
    """The worker that takes the call next, or None. A call whose worker has died before runs alone, to be sure of it."""
    free = min(range(len(queues)), key=lambda worker: len(queues[worker]))
    behind_suspect = any(tries[ahead] for _, ahead in queues[free])
    room = 1 if tries[index] or behind_suspect else CALLS_IN_FLIGHT
    return free if len(queues[free]) < room else None


def _collect(
    queue: deque[tuple[Any, int]], waiting: deque[int], tries: list[int], attempts: int, finished: dict[int, Evaluation]
) -> bool:
    """Move the finished calls of one worker from its queue to `finished`, or back to `waiting` if the worker died.

    Returns whether it died.
    """
    while queue and ray.wait([queue[0][0]], timeout=0)[0]:
        call, index = queue.popleft()
        try:
            finished[index] = ray.get(call)
        except RayTaskError as error:
            finished[index] = Evaluation(None, error=f"the worker could not evaluate: {_last_line(error)}")
        except RayError as error:
            # It may have been any of these: the result of a finished call can be lost with the next one's crash.
            died = [index, *(behind for _, behind in queue)]
            queue.clear()
            for one in died:
                tries[one] += 1
            if len(died) > 1 or tries[index] < attempts:
                waiting.extendleft(reversed(died))
            else:
                reason = f"the worker died {tries[index]} times: {type(error).__name__}"
                finished[index] = Evaluation(None, error=reason)
            return True
    return False


def _await_restart(worker: Any) -> None:
    """Wait until a restarted actor answers. Before, Ray fails every call to it, and the next call would be blamed."""
    until = time.monotonic() + RESTART_SECONDS
    while time.monotonic() < until:
        try:
            ray.get(worker.ping.remote())
            return
        except RayError:
            time.sleep(0.05)


def _start_ray(workers: int, address: str | None) -> None:
    quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init(num_cpus=max(workers, os.cpu_count() or 1), **quiet)
    else:
        _check_reachable(address)
        del quiet["include_dashboard"]  # a running cluster has it, or not
        ray.init(address=address, **quiet)


def _check_reachable(address: str) -> None:
    """Ray itself tries for minutes to reach a cluster that is not there."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # `auto`, or another form that Ray resolves
    try:
        socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()
    except OSError as error:
        raise SearchError(
            f"there is no Ray cluster at {address}\n{error}\n"
            "start one with `ray start --head`, or leave the address out to use this machine"
        ) from error


def _check_cluster(workers: int, gpus: float) -> None:
    has: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if has.get("CPU", 0) < workers or has.get("GPU", 0) < workers * gpus:
        raise SearchError(
            f"{workers} workers of 1 CPU and {gpus:g} GPU do not fit into the Ray cluster\n"
            f"it has {has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs in all\n"
            "ask for fewer workers, or a smaller share of a GPU"
        )


def _hold(objective: Objective) -> list[Any]:
    """The objective in Ray's store. In a list, so that Ray passes the reference on and does not resolve it."""
    try:
        return [ray.put(objective)]
    except TypeError as error:
        raise SearchError(
            f"the objective {objective!r} cannot be sent to a worker\n"
            f"{str(error).strip().splitlines()[0]}\n"
            "keep open files, locks and generators out of it, or use LocalPool"
        ) from error


def _start_workers(workers: int, gpus: float) -> list[Any]:
    actor: Any = ray.remote(_Worker).options(
        num_cpus=1,
        num_gpus=gpus,
        max_restarts=-1,
        max_task_retries=0,
        runtime_env={"env_vars": SINGLE_THREAD | _python_path()},
    )
    return [actor.remote() for _ in range(workers)]


def _python_path() -> dict[str, str]:
    """What this process can import beside its installed packages, the workers can import, too."""
    installed = (sys.prefix, sys.base_prefix)
    own = [os.path.abspath(entry) for entry in sys.path if not entry.startswith(installed)]
    return {"PYTHONPATH": os.pathsep.join(own)}


def _load(workers: list[Any], held: list[Any]) -> None:
    try:
        ray.get([worker.load.remote(held) for worker in workers])
    except RayError as error:
        raise SearchError(
            "a worker could not load the objective\n"
            f"{_last_line(error)}\n"
            "its module must be importable in a new process: install it, or start from its folder"
        ) from error


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
