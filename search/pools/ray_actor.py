"""One Ray actor that holds the objective, and what this process knows of it: its calls, and whether it is up.

A worker gets no call before it has answered that it lives and has loaded the objective. Each life of an actor has a
name of its own, so that an answer of the one that was just killed is not taken for one of the next.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import ray

from .many import evaluate_many
from .pool import Evaluation, Objective, Task


@dataclass(eq=False)
class Job:
    """A task on its way. `alone`: nothing else may wait at its worker, so that it is known what it does there."""

    number: int
    task: Task
    alone: bool = False
    deaths: list[str] = field(default_factory=list)  # the nodes on which a worker died with it
    shortages: int = 0  # how often it ran out of memory


@dataclass(eq=False)
class Call:
    """Jobs that were sent together. Without jobs: nobody waits for it any more, but its worker is busy with it."""

    reference: Any
    jobs: list[Job]
    begun: float | None = None  # when it was first seen at the head of its worker's queue
    done: bool = False


class Worker:
    """One actor, as seen from here: its calls, oldest first, and whether it is up."""

    def __init__(self, actor: Any, held: list[Any]) -> None:
        self.actor = actor
        self.queue: deque[Call] = deque()
        self.up = False
        self.killed = False  # from here; its next life is not here yet
        self.lost = False  # it cannot load the objective and is not asked again
        self.node = ""
        self.life = ""
        self.hello: Any = None
        self.greet_at = 0.0
        self._held = held

    def greet(self) -> None:
        """Ask whether it lives and can load the objective; `hello` is the call."""
        self.hello = self.actor.load.remote(self._held)

    def fell(self) -> None:
        """It died: wait until its next life answers."""
        self.up = False
        self.greet()

    def kill(self) -> None:
        """End the process; Ray starts the next."""
        ray.kill(self.actor, no_restart=False)
        self.killed = True
        self.fell()

    def send(self, jobs: list[Job], at_once: int) -> None:
        """Put one call at the end of its queue."""
        reference = self.actor.evaluate.remote([job.task for job in jobs], at_once)
        self.queue.append(Call(reference, jobs))

    @property
    def has_lone(self) -> bool:
        """Whether nothing may be sent behind what it has."""
        return any(job.alone for call in self.queue for job in call.jobs)

    @property
    def flying(self) -> list[Call]:
        """The calls that are not known to be finished, oldest first."""
        return [call for call in self.queue if not call.done]

    def drop_flying(self) -> list[Call]:
        """Take them out of the queue."""
        flying = self.flying
        self.queue = deque(call for call in self.queue if call.done)
        return flying

    def abandon(self, jobs: Iterable[Job]) -> None:
        """Nobody waits for these jobs any more."""
        gone = set(jobs)
        for call in list(self.queue):
            if gone.intersection(call.jobs):
                call.jobs = []
                if call.done:
                    self.queue.remove(call)

    @property
    def head(self) -> Call | None:
        """The call that it works at."""
        return next((call for call in self.queue if not call.done), None)


class Actor:
    """Lives in the worker's process."""

    def __init__(self) -> None:
        self._objective: Objective | None = None
        self._life = uuid.uuid4().hex

    def load(self, held: list[Any]) -> tuple[str, str]:
        """Fetch the objective, once a life; returns the node's id, and the name of this life."""
        if self._objective is None:
            self._objective = ray.get(held[0])
        return ray.get_runtime_context().get_node_id(), self._life

    def evaluate(self, tasks: list[Task], at_once: int) -> list[Evaluation] | None:
        """One evaluation a task. None: this life has no objective yet, the call was for the one before."""
        return None if self._objective is None else evaluate_many(self._objective, tasks, at_once)
