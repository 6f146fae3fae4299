"""Trains networks on Ray actors with one CPU core each; an actor keeps its data sets and is restarted once if it dies.

Actors end when the last reference to them is dropped. Killing them would make Ray report unfinished tasks on stdout.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from torch import Tensor

from popgen.configs.spec import ZooSpec
from popgen.errors import BadInput, CannotResume, PopgenError
from popgen.trust import own_code, take_own_code
from popgen.zoo.build.trainer import TrainedNetwork, Trainer, TrainingRun
from search.errors import SearchError
from search.pools.ray_session import RaySession

# Training runs queued on each worker. With two, a worker never waits for this process; more would delay the end of an
# interrupted build.
_QUEUED_RUNS = 2


def train_on_ray(
    zoo_spec: ZooSpec, starts: dict[str, Tensor], runs: list[TrainingRun], workers: int, data_dir: str
) -> Generator[list[TrainedNetwork], None, None]:
    """Yield the networks of each run in the order in which runs are finished.

    Raises:
        CannotResume: a worker died twice.
        BadInput: the paths of Ray's sockets would be too long.
    """
    with RaySession() as session:
        _start(session, workers)
        remote: Any = ray.remote(num_cpus=1, max_restarts=1, max_task_retries=1)(_Worker)
        actors = [remote.remote() for _ in range(workers)]
        # Stored once for all actors, and passed with each run rather than to the constructor: Ray does not keep what a
        # constructor needs, so that an actor could not be restarted.
        settings = [ray.put((own_code(), zoo_spec, starts, data_dir))]
        waiting = list(reversed(runs))
        running = {}
        for actor in actors * _QUEUED_RUNS:
            if waiting:
                run = waiting.pop()
                running[actor.train.remote(settings, run)] = actor, run
        try:
            while running:
                for ref in ray.wait(list(running))[0]:
                    actor, run = running.pop(ref)
                    yield ray.get(ref)
                    if waiting:
                        next_run = waiting.pop()
                        running[actor.train.remote(settings, next_run)] = actor, next_run
        except RayError as error:
            if isinstance(error, RayTaskError) and isinstance(error.cause, PopgenError):
                raise error.cause from None
            raise CannotResume(
                f"a worker stopped while training {run.id}",
                str(error).strip().splitlines()[-1],
                "Run the same command again; with --workers 0 to see where.",
            ) from error


class _Worker:
    """A Ray actor around one Trainer, which it makes for its first run, also after a restart."""

    def __init__(self) -> None:
        self._trainer: Trainer | None = None

    def train(self, settings: list[Any], run: TrainingRun) -> list[TrainedNetwork]:
        if self._trainer is None:
            code, zoo_spec, starts, data_dir = ray.get(settings[0])
            take_own_code(code)
            self._trainer = Trainer(zoo_spec, starts, data_dir)
        return self._trainer.train(run)


def _start(session: RaySession, workers: int) -> None:
    """Start Ray on this machine, unless it runs in this process already.

    Raises:
        BadInput: the paths of its sockets would be too long.
    """
    try:
        session.start(workers, "local")
    except SearchError as error:
        what, why, todo = str(error).split("\n", 2)
        raise BadInput(what, why, f"{todo}, or give --workers 0.") from error
