"""Runs training jobs on Ray actors, one thread each; an actor keeps its data sets and is restarted once if it dies.

Actors end with the last reference to them; killing them would make Ray report their unfinished jobs on stdout.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from torch import Tensor

from popgen.configs.spec import ZooSpec
from popgen.errors import CannotResume, PopgenError
from popgen.zoo.build.trainer import Done, Job, Trainer

_AHEAD = 2  # jobs given to a worker at a time: it never waits for this process, and an end is not held up by many


def train_on_ray(
    spec: ZooSpec, starts: dict[str, Tensor], jobs: list[Job], workers: int, data_dir: str
) -> Generator[Done, None, None]:
    """Trained networks in the order in which they are finished.

    Raises:
        CannotResume: a worker died twice.
    """
    with _session(workers):
        remote: Any = ray.remote(num_cpus=1, max_restarts=1, max_task_retries=1)(_Worker)
        actors = [remote.remote(spec, starts, data_dir) for _ in range(workers)]
        waiting = list(reversed(jobs))
        running = {}
        for actor in actors * _AHEAD:
            if waiting:
                job = waiting.pop()
                running[actor.train.remote(job)] = actor, job
        try:
            while running:
                for ref in ray.wait(list(running))[0]:
                    actor, job = running.pop(ref)
                    yield ray.get(ref)
                    if waiting:
                        following = waiting.pop()
                        running[actor.train.remote(following)] = actor, following
        except RayError as error:
            if isinstance(error, RayTaskError) and isinstance(error.cause, PopgenError):
                raise error.cause from None
            raise CannotResume(
                f"a worker stopped while training {job.id}",
                str(error).strip().splitlines()[-1],
                "Run the same command again; with --workers 0 to see where.",
            ) from error


class _Worker:
    def __init__(self, spec: ZooSpec, starts: dict[str, Tensor], folder: str) -> None:
        self.trainer = Trainer(spec, starts, folder)

    def train(self, job: Job) -> Done:
        return self.trainer.train(job)


@contextmanager
def _session(workers: int) -> Iterator[None]:
    """A Ray that is there already is used as it is; one that is started here is ended here."""
    started = not ray.is_initialized()
    if started:
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        if started:
            ray.shutdown()
