"""One stream of tasks through the workers of a RayPool: who gets what, what came of it, and who is to blame.

Blame is only laid where it is certain: a candidate whose call died or timed out together with others, or behind
another, is sent again, alone on its worker. Deaths of whole nodes do not count.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from .pool import Evaluation, Task
from .ray_actor import Call, Job, Worker
from .ray_workers import LOOK_SECONDS, PAUSE_SECONDS, Crew, last_line

CALL_SECONDS = 0.01  # of quick evaluations that travel together; a call alone costs about .6 ms
CALL_TASKS = 64
QUICK_SECONDS = 0.002
NODE_DEATHS = 3  # times the attempts; then the candidate is taken for the one that brings the nodes down


@dataclass(frozen=True)
class Terms:
    """What RayPool was asked for; `at_once` is 1 where the objective has no `many`."""

    attempts: int
    timeout: float | None
    at_once: int


@dataclass(frozen=True)
class Outcome:
    """Evaluations to be given out, one a job, and the call that they came with, which keeps its place until then."""

    jobs: list[Job]
    evaluations: list[Evaluation]
    worker: Worker | None = None
    call: Call | None = None


class Run:
    """The state of one `RayPool.completed`."""

    def __init__(self, crew: Crew, terms: Terms, tasks: Iterable[Task], ahead: int) -> None:
        self._crew, self._terms, self._ahead = crew, terms, ahead
        self._tasks = iter(tasks)
        self._count = len(tasks) if isinstance(tasks, Sequence) else None
        self._taken = 0
        self._ended = False
        self._open: dict[int, Job] = {}  # taken, and not given out yet
        self._again: deque[Job] = deque()
        self._alone: deque[Job] = deque()
        self._outcomes: deque[Outcome] = deque()

    def results(self) -> Generator[tuple[int, Evaluation], None, None]:
        """Yield (number, evaluation). Room is filled again after every call that is given out, not before."""
        try:
            while True:
                self._fill()
                if self._outcomes:
                    yield from self._give(self._outcomes.popleft())
                elif self._ended and not self._open:
                    return
                else:
                    self._collect()
        finally:
            for worker in self._crew.workers:
                worker.abandon(self._open.values())

    # Sending

    def _fill(self) -> None:
        """Send until no worker has room, or there is nothing to send."""
        while up := self._crew.up:
            shortest = min(up, key=lambda worker: len(worker.queue))
            if self._alone:
                if not shortest.queue:
                    shortest.send([self._alone.popleft()], self._terms.at_once)
                    continue
                up.remove(shortest)  # it gets nothing more until it is free for the lone one
            up = [worker for worker in up if len(worker.queue) <= self._ahead and not worker.has_lone]
            jobs = self._take(len(self._crew.up)) if up else []
            if not jobs:
                return
            min(up, key=lambda worker: len(worker.queue)).send(jobs, self._terms.at_once)

    def _take(self, workers: int) -> list[Job]:
        jobs: list[Job] = []
        for _ in range(self._call_size(workers)):
            if self._again:
                jobs.append(self._again.popleft())
            elif not self._ended:
                try:
                    jobs.append(Job(self._taken, next(self._tasks)))
                except StopIteration:
                    self._ended = True
                    break
                self._open[self._taken] = jobs[-1]
                self._taken += 1
        return jobs

    def _call_size(self, workers: int) -> int:
        """How many tasks go into the next call: the candidates of one pass, or, where the objective is quick, some; else one."""
        if self._terms.at_once > 1:
            return self._terms.at_once
        if self._count is None or self._ahead < 1 or self._crew.seconds > QUICK_SECONDS:
            return 1
        left = self._count - self._taken + len(self._again)
        even = -(-left // (workers * (self._ahead + 1)))
        return max(1, min(even, CALL_TASKS, int(CALL_SECONDS / max(self._crew.seconds, 1e-9))))

    # Receiving

    def _collect(self) -> None:
        """Wait for something to happen, and see what it means."""
        hellos = self._crew.tend()
        calls = {call.reference: (worker, call) for worker in self._crew.workers for call in worker.flying}
        patience = self._patience()
        waited = [*calls, *hellos]
        if waited:
            ready, _ = ray.wait(waited, num_returns=1, timeout=patience)
            if ready and len(waited) > 1:
                ready, _ = ray.wait(waited, num_returns=len(waited), timeout=0)
            if hellos:
                self._crew.hear(ready)
            self._read([calls[reference] for reference in ready if reference in calls])
        else:
            time.sleep(PAUSE_SECONDS)
        self._expire()
        self._crew.check()

    def _patience(self) -> float:
        """Seconds until something is due. Starts the clocks of calls that have come to the head of their queue."""
        now = time.monotonic()
        due = now + (LOOK_SECONDS if all(worker.up or worker.hello for worker in self._crew.workers) else PAUSE_SECONDS)
        for worker in self._crew.up:
            head = worker.head
            if head is not None:
                head.begun = head.begun or now
                due = min(due, head.begun + self._limit)
        return max(0.0, due - now)

    @property
    def _limit(self) -> float:
        """Seconds that one call may take. One of several quick tasks has no more than a single task."""
        return math.inf if self._terms.timeout is None else self._terms.timeout * self._terms.at_once

    def _read(self, calls: list[tuple[Worker, Call]]) -> None:
        """Move what finished calls returned to the outcomes."""
        failed: list[tuple[Worker, RayError | None]] = []
        for (worker, call), result in zip(calls, _results([call.reference for _, call in calls]), strict=True):
            if isinstance(result, RayTaskError):  # it lives; what it made cannot travel
                reason = f"the worker could not evaluate: {last_line(result)}"
                if len(call.jobs) > 1:
                    self._isolate(call.jobs)
                    result, call.jobs = [], []
                else:
                    result = [Evaluation(None, error=reason)] * len(call.jobs)
            if result is None or isinstance(result, RayError):
                failed.append((worker, result))
            elif call.jobs:
                call.done = True
                self._outcomes.append(Outcome(call.jobs, result, worker, call))
            else:
                worker.queue.remove(call)
        for worker, error in failed:
            if worker.flying:  # else it was seen to already, at another call of its queue
                self._bury(worker, error)

    def _bury(self, worker: Worker, error: RayError | None) -> None:
        """A worker died with its calls. Any may be to blame: the result of a finished one is lost in the next one's crash.

        Without an error, the worker had died before they came.
        """
        died = worker.drop_flying()
        worker.fell()
        jobs = [job for call in died for job in call.jobs]
        if error is None:
            self._again.extendleft(reversed(jobs))
            return
        for job in died[0].jobs:
            job.deaths.append(worker.node)
        if len(died) == len(jobs) == 1 and self._is_guilty(jobs[0]):
            often = len(jobs[0].deaths)
            reason = f"the worker died {often} time{'s' * (often > 1)}: {type(error).__name__}"
            self._outcomes.append(Outcome(jobs, [Evaluation(None, error=reason)]))
        else:
            self._isolate(jobs)

    def _is_guilty(self, job: Job) -> bool:
        """Enough workers died with it, not counting those that died with their node."""
        if len(job.deaths) < self._terms.attempts:
            return False
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]
        deaths = sum(node in alive for node in job.deaths)
        return deaths >= self._terms.attempts or len(job.deaths) >= NODE_DEATHS * self._terms.attempts

    def _expire(self) -> None:
        """Restart the workers whose call takes too long."""
        now = time.monotonic()
        for worker in self._crew.up:
            head = worker.head
            if head is None or head.begun is None or now - head.begun < self._limit:
                continue
            _, *behind = worker.drop_flying()
            worker.kill()
            if len(head.jobs) == 1:
                reason = f"timed out after {self._limit:g} s"
                self._outcomes.append(Outcome(head.jobs, [Evaluation(None, seconds=now - head.begun, error=reason)]))
            else:
                self._isolate(head.jobs)
            self._again.extendleft(job for call in reversed(behind) for job in reversed(call.jobs))

    def _isolate(self, jobs: list[Job]) -> None:
        for job in jobs:
            job.alone = True
        self._alone.extend(jobs)

    # Giving

    def _give(self, outcome: Outcome) -> Generator[tuple[int, Evaluation], None, None]:
        if outcome.worker is not None and outcome.call is not None:
            outcome.worker.queue.remove(outcome.call)
        for job, evaluation in zip(outcome.jobs, outcome.evaluations, strict=True):
            if evaluation.out_of_memory:
                job.shortages += 1
                if job.shortages < self._terms.attempts:
                    self._isolate([job])
                    continue
                evaluation = replace(evaluation, error=f"{evaluation.error} (tried {job.shortages} times)")
            if evaluation.loss is not None:
                self._crew.note(evaluation.seconds)
            del self._open[job.number]
            yield job.number, evaluation


def _results(references: list[Any]) -> list[list[Evaluation] | RayError | None]:
    """Of finished calls; at once where none failed."""
    try:
        return ray.get(references)
    except RayError:
        return [_result(reference) for reference in references]


def _result(reference: Any) -> list[Evaluation] | RayError | None:
    try:
        return ray.get(reference)
    except RayError as error:
        return error
