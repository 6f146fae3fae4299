"""Evaluation on Ray actors that hold the objective once, come and go with the nodes, and restart when they die.

Ray's own task retries are off: a call that dies with its actor is sent again from here, so that it is known how often.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from typing import Any

import ray

from ..errors import SearchError
from .many import has_many
from .pool import Evaluation, Objective, Task
from .ray_dispatch import Run, Terms
from .ray_session import RaySession
from .ray_workers import Crew

__all__ = ["RayPool", "RaySession"]


class RayPool:
    """Actors of one CPU each. Starts Ray if it is not running, or joins a cluster, and leaves it at `close`.

    `workers` may be more than the cluster has room for now: the rest come up when nodes join. None is one for each CPU
    of the cluster, now and later. `address` is of a running cluster; without it, RAY_ADDRESS in the environment.
    `gpus` is the share of a GPU that each worker takes; `at_once` is how many candidates go into one call of the
    objective's `many`, if it has that. After `timeout` seconds (times `at_once`) at one candidate its worker is
    restarted, and the candidate has failed. `attempts` is how often a candidate is sent out before the death of its
    worker, or its lack of memory, is its own failure.

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
        attempts: int = 4,  # a machine that is short of memory may kill the innocent twice
        timeout: float | None = None,
        at_once: int = 1,
    ) -> None:
        _check_numbers(workers, attempts, timeout, at_once)
        self._terms = Terms(attempts, timeout, at_once if has_many(objective) else 1)
        self._crew: Crew | None = None
        self._session = RaySession()
        self._session.start(workers, address)
        try:
            self._held = _hold(objective)
            self._crew = Crew(self._held, workers, gpus)
            self._crew.await_first()
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """How many workers are up now, and at least 1."""
        return 1 if self._crew is None else max(1, len(self._crew.up))

    def completed(self, tasks: Iterable[Task], ahead: int = 1) -> Generator[tuple[int, Evaluation], None, None]:
        """Yield (number of the task, evaluation) in the order in which they are finished.

        Tasks in a sequence may travel several in a call where the objective is quick; those of an iterator are taken
        one call at a time, each when a worker has room for it. What still runs when this is closed stays with its
        worker, and reaches nobody.

        Raises:
            SearchError: no worker has been up for five minutes.
        """
        if self._crew is None:
            raise SearchError("the Ray pool is closed\nits workers have ended\nmake a new one")
        with closing(Run(self._crew, self._terms, tasks, ahead).results()) as results:
            yield from results

    def close(self) -> None:
        """End the workers, and leave Ray if this pool started or joined it."""
        if self._crew is not None:
            self._crew.close()
        self._crew = None
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
