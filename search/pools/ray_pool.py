"""Evaluation on Ray actors, each of which holds the objective; they are restarted when they die.

Ray's own retries of calls are off: this process sends a call that died with its actor again itself, so that it knows
how often a candidate has been tried.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from typing import Any

import ray

from ..errors import SearchError
from .many import has_many
from .pool import Evaluation, Objective, Request
from .ray_dispatch import Dispatch, Limits
from .ray_session import RaySession
from .ray_workers import RayWorkers

__all__ = ["RayPool", "RaySession"]


class RayPool:
    """Evaluates on Ray actors of one CPU each. Starts Ray, or joins a cluster, unless Ray is running in this process.

    Args:
        objective: is sent to every worker once; it must be picklable.
        workers: their number. It may be more than the cluster has room for now: the others come up when nodes join.
            None means one worker for each CPU of the cluster, now and after nodes have joined.
        address: of a running cluster; None means the one that RAY_ADDRESS in the environment names, or else a Ray of
            this machine's own.
        gpus: share of a GPU that each worker takes.
        attempts: how often a candidate is evaluated before the death of its worker, or a lack of memory, counts as the
            candidate's own failure.
        timeout: seconds that a candidate may take; a call of `many` may take `at_once` times as long. Then the worker
            is restarted, and the candidate has failed. None means no limit.
        at_once: number of candidates in one call of the objective's `many`, if it has that method.

    Raises:
        SearchError: no worker fits or comes up, the cluster cannot be joined, or the objective cannot be sent.
    """

    def __init__(
        self,
        objective: Objective,
        workers: int | None,
        address: str | None = None,
        *,
        gpus: float = 0.0,
        attempts: int = 4,  # a machine that is short of memory may kill a worker twice that is not the cause
        timeout: float | None = None,
        at_once: int = 1,
    ) -> None:
        _check_numbers(workers, attempts, timeout, at_once)
        self._limits = Limits(attempts, timeout, at_once if has_many(objective) else 1)
        self._workers: RayWorkers | None = None
        self._session = RaySession()
        self._session.start(workers, address)
        try:
            self._workers = RayWorkers(_put_objective(objective), workers, gpus)
            self._workers.wait_for_first()
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Number of workers that are up now, but at least 1."""
        return 1 if self._workers is None else max(1, len(self._workers.up))

    def completed(self, requests: Iterable[Request], ahead: int = 1) -> Generator[tuple[int, Evaluation], None, None]:
        """Yield (index of the request, evaluation) in the order in which the evaluations finish.

        If the objective is quick, several requests of a sequence share a call. Requests of an iterator are taken one
        call at a time, when a worker has room for it. Evaluations that still run when this generator is closed are
        finished by their workers, and their results are dropped.

        Raises:
            SearchError: no worker has been up for five minutes.
        """
        if self._workers is None:
            raise SearchError("the Ray pool is closed\nits workers have ended\nmake a new one")
        with closing(Dispatch(self._workers, self._limits, requests, ahead).evaluations()) as evaluations:
            yield from evaluations

    def close(self) -> None:
        """End the workers, and shut Ray down if this pool started or joined it."""
        if self._workers is not None:
            self._workers.close()
        self._workers = None
        self._session.__exit__()


def _check_numbers(workers: int | None, attempts: int, timeout: float | None, at_once: int) -> None:
    if workers is not None and workers < 1:
        raise SearchError(
            f"a Ray pool of {workers} workers\nat least one must evaluate\nuse LocalPool to evaluate in this process"
        )
    if timeout is not None and not timeout > 0:
        raise SearchError(
            f"a Ray pool with a timeout of {timeout:g} seconds\nno candidate could be evaluated\n"
            "give the seconds that one candidate may take, or None for no limit"
        )
    if attempts < 1 or at_once < 1:
        raise SearchError(
            f"a Ray pool with {attempts} attempts and {at_once} candidates at once\nboth count from 1\n"
            "leave them out for the defaults"
        )


def _put_objective(objective: Objective) -> list[Any]:
    """Put the objective into Ray's object store and return its reference in a list.

    Ray replaces a bare reference among the arguments of a call by its value, but passes on a reference in a list.
    """
    try:
        return [ray.put(objective)]
    except TypeError as error:
        raise SearchError(
            f"the objective {objective!r} cannot be sent to a worker\n"
            f"{str(error).strip().splitlines()[0]}\n"
            "keep open files, locks and generators out of it, or use LocalPool"
        ) from error
