"""Trains networks on Ray actors with one CPU core each; an actor keeps its data sets and is restarted once if it dies.

Actors end when the last reference to them is dropped. Killing them would make Ray report unfinished tasks on stdout.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from torch import Tensor

from popgen.configs.spec import ZooSpec
from popgen.errors import BadInput, CannotResume, PopgenError
from popgen.zoo.build.trainer import TrainedNetwork, Trainer, TrainingRun

# Training runs queued on each worker. With two, a worker never waits for this process; more would delay the end of an
# interrupted build.
_QUEUED_RUNS = 2


def train_on_ray(
    zoo_spec: ZooSpec, starts: dict[str, Tensor], runs: list[TrainingRun], workers: int, data_dir: str
) -> Generator[TrainedNetwork, None, None]:
    """Yield trained networks in the order in which they are finished.

    Raises:
        CannotResume: a worker died twice.
        BadInput: the paths of Ray's sockets would be too long.
    """
    with _ray_session(workers):
        remote: Any = ray.remote(num_cpus=1, max_restarts=1, max_task_retries=1)(_Worker)
        actors = [remote.remote(zoo_spec, starts, data_dir) for _ in range(workers)]
        waiting = list(reversed(runs))
        running = {}
        for actor in actors * _QUEUED_RUNS:
            if waiting:
                run = waiting.pop()
                running[actor.train.remote(run)] = actor, run
        try:
            while running:
                for ref in ray.wait(list(running))[0]:
                    actor, run = running.pop(ref)
                    yield ray.get(ref)
                    if waiting:
                        next_run = waiting.pop()
                        running[actor.train.remote(next_run)] = actor, next_run
        except RayError as error:
            if isinstance(error, RayTaskError) and isinstance(error.cause, PopgenError):
                raise error.cause from None
            raise CannotResume(
                f"a worker stopped while training {run.id}",
                str(error).strip().splitlines()[-1],
                "Run the same command again; with --workers 0 to see where.",
            ) from error


class _Worker:
    """A Ray actor around one Trainer."""

    def __init__(self, zoo_spec: ZooSpec, starts: dict[str, Tensor], data_dir: str) -> None:
        self.trainer = Trainer(zoo_spec, starts, data_dir)

    def train(self, run: TrainingRun) -> TrainedNetwork:
        return self.trainer.train(run)


@contextmanager
def _ray_session(workers: int) -> Iterator[None]:
    """Use the Ray session that is already running, or start one of `workers` CPU cores and shut it down afterwards."""
    started = not ray.is_initialized()
    if started:
        try:
            ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except OSError as error:
            if "AF_UNIX path length" not in str(error):
                raise
            raise BadInput(
                f"Ray cannot work in {os.environ.get('RAY_TMPDIR') or tempfile.gettempdir()}",
                "the paths of its sockets there are longer than the 107 bytes that the system allows",
                "Set RAY_TMPDIR to a short folder on this machine, for example RAY_TMPDIR=/tmp, or give --workers 0.",
            ) from error
    try:
        yield
    finally:
        if started:
            ray.shutdown()
