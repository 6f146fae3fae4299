"""One worker of a RayPool: the Ray actor that holds the objective, and this process's record of its calls and state.

A worker gets no evaluation before it has answered a ping, which shows that it runs and has loaded the objective. Ray
restarts an actor under the same handle, so each incarnation has an identifier of its own: an answer of the one that was
just killed is not taken for an answer of the next.
"""

from __future__ import annotations

import sys
import uuid
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import ray

from .many import evaluate_many
from .pool import Evaluation, Objective, Request


@dataclass(eq=False)
class PendingRequest:
    """A request whose evaluation has not been yielded yet.

    An `exclusive` one is sent to a worker with nothing else to do, and nothing is queued behind it, so that the death
    of that worker can be traced to it.
    """

    index: int
    request: Request
    exclusive: bool = False
    deaths: list[str] = field(default_factory=list)  # id of the node for each worker that died with this request
    memory_failures: int = 0  # number of evaluations that ran out of memory


@dataclass(eq=False)
class Call:
    """Requests that were sent to a worker together.

    A call without requests is one whose results nobody waits for any more, but that still keeps its worker busy.
    """

    reference: Any
    pending: list[PendingRequest]
    head_since: float | None = None  # when the call was first seen at the head of its worker's queue, in monotonic time
    done: bool = False


class Worker:
    """One actor as this process knows it: its calls, oldest first, and whether it is up."""

    def __init__(self, actor: Any, objective_ref: list[Any]) -> None:
        self.actor = actor
        self.queue: deque[Call] = deque()
        self.up = False
        self.killed = False  # this process killed it, and its next incarnation has not answered yet
        self.unusable = False  # it cannot load the objective and is not pinged again
        self.node = ""
        self.incarnation = ""
        self.pending_ping: Any = None  # reference of a ping without an answer
        self.ping_at = 0.0  # earliest monotonic time of the next ping
        self._objective_ref = objective_ref

    def ping(self) -> None:
        """Ask whether the actor runs and can load the objective."""
        self.pending_ping = self.actor.load.remote(self._objective_ref, list(sys.path))

    def on_death(self) -> None:
        """Mark the worker as down until its next incarnation answers a ping."""
        self.up = False
        self.ping()

    def kill(self) -> None:
        """End the process; Ray starts the next incarnation."""
        ray.kill(self.actor, no_restart=False)
        self.killed = True
        self.on_death()

    def send(self, pending: list[PendingRequest], at_once: int) -> None:
        """Append one call with these requests to the worker's queue."""
        reference = self.actor.evaluate.remote([one.request for one in pending], at_once)
        self.queue.append(Call(reference, pending))

    @property
    def has_exclusive(self) -> bool:
        """Whether the queue holds an exclusive request, behind which nothing may be sent."""
        return any(one.exclusive for call in self.queue for one in call.pending)

    @property
    def unfinished(self) -> list[Call]:
        """The calls without a result, oldest first."""
        return [call for call in self.queue if not call.done]

    def take_unfinished(self) -> list[Call]:
        """Remove the calls without a result from the queue and return them, oldest first."""
        unfinished = self.unfinished
        self.queue = deque(call for call in self.queue if call.done)
        return unfinished

    def abandon(self, pending: Iterable[PendingRequest]) -> None:
        """Empty the calls that hold any of these requests: nobody waits for their results any more."""
        abandoned = set(pending)
        for call in list(self.queue):
            if abandoned.intersection(call.pending):
                call.pending = []
                if call.done:
                    self.queue.remove(call)

    @property
    def head(self) -> Call | None:
        """The call that the worker runs, None if it has none."""
        return next((call for call in self.queue if not call.done), None)


class Actor:
    """The part of a worker that lives in its Ray process."""

    def __init__(self) -> None:
        self._objective: Objective | None = None
        self._incarnation = uuid.uuid4().hex

    def load(self, objective_ref: list[Any], paths: list[str]) -> tuple[str, str]:
        """Fetch the objective if this incarnation has none; return the id of the node and that of the incarnation.

        Args:
            paths: `sys.path` of the calling process, whose modules the objective may need.
        """
        if self._objective is None:
            sys.path.extend(path for path in paths if path not in sys.path)
            objective = ray.get(objective_ref[0])
            if hasattr(objective, "prepare"):
                objective.prepare()
            self._objective = objective
        return ray.get_runtime_context().get_node_id(), self._incarnation

    def evaluate(self, requests: list[Request], at_once: int) -> list[Evaluation] | None:
        """Return one evaluation for each request, or None if this incarnation has no objective.

        The call was then meant for the incarnation before.
        """
        return None if self._objective is None else evaluate_many(self._objective, requests, at_once)
