"""Dispatch of one stream of requests to the workers of a RayPool, and attribution of failures to candidates.

A candidate is counted as failed only when it is certain to be the cause. If a call with several candidates died or
timed out, or a worker died while calls were queued, it is not known which candidate is to blame: each is sent again
exclusively, that is to a worker with nothing else to do. The death of a whole node is not attributed to a candidate.
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

from .pool import Evaluation, Request
from .ray_actor import Call, PendingRequest, Worker
from .ray_workers import POLL_SECONDS, RETRY_SECONDS, RayWorkers, last_line

QUICK_SECONDS = 0.002  # evaluations of at most this time share a call
CALL_SECONDS = 0.01  # time of a call that quick evaluations share; a call alone costs about 0.6 ms
CALL_REQUESTS = 64  # most requests in a call of quick evaluations
# A candidate fails after this many times `attempts` deaths even if they came with the death of their nodes: it is then
# taken to be what brings the nodes down.
NODE_DEATHS = 3


@dataclass(frozen=True)
class Limits:
    """Limits of a RayPool: attempts for a candidate, seconds for an evaluation (None: no limit), candidates in a call.

    `at_once` is 1 if the objective has no `many`.
    """

    attempts: int
    timeout: float | None
    at_once: int


@dataclass(frozen=True)
class CallResult:
    """Requests with their evaluations, and the call that they came with, None for a worker that died or timed out.

    The call keeps its place in the worker's queue until its evaluations are yielded.
    """

    pending: list[PendingRequest]
    evaluations: list[Evaluation]
    worker: Worker | None = None
    call: Call | None = None


class Dispatch:
    """The state of one call of `RayPool.completed`."""

    def __init__(self, workers: RayWorkers, limits: Limits, requests: Iterable[Request], ahead: int) -> None:
        self._workers, self._limits, self._ahead = workers, limits, ahead
        self._requests = iter(requests)
        self._count = len(requests) if isinstance(requests, Sequence) else None
        self._taken = 0  # requests taken from the iterator
        self._exhausted = False  # the iterator has no more requests
        self._outstanding: dict[int, PendingRequest] = {}  # taken from the iterator and not yielded yet, by index
        self._retries: deque[PendingRequest] = deque()  # sent again before new requests are taken
        self._exclusive: deque[PendingRequest] = deque()  # sent again, each to a worker with nothing else to do
        self._results: deque[CallResult] = deque()  # received and not yielded yet

    def evaluations(self) -> Generator[tuple[int, Evaluation], None, None]:
        """Yield (index of the request, evaluation) in the order in which the evaluations finish.

        New requests are sent after the evaluations of a call have been yielded, not before: an iterator of requests may
        depend on them.
        """
        try:
            while True:
                self._send()
                if self._results:
                    yield from self._yield_result(self._results.popleft())
                elif self._exhausted and not self._outstanding:
                    return
                else:
                    self._receive()
        finally:
            for worker in self._workers:
                worker.abandon(self._outstanding.values())

    # Sending

    def _send(self) -> None:
        """Send calls until no worker has room, or there is nothing to send."""
        while up := self._workers.up:
            shortest = min(up, key=lambda worker: len(worker.queue))
            if self._exclusive:
                if not shortest.queue:
                    shortest.send([self._exclusive.popleft()], self._limits.at_once)
                    continue
                up.remove(shortest)  # this worker gets nothing more until it is free for the exclusive request
            up = [worker for worker in up if len(worker.queue) <= self._ahead and not worker.has_exclusive]
            pending = self._next_requests(len(self._workers.up)) if up else []
            if not pending:
                return
            min(up, key=lambda worker: len(worker.queue)).send(pending, self._limits.at_once)

    def _next_requests(self, workers: int) -> list[PendingRequest]:
        """Return the requests of the next call: those to be sent again first, then new ones; [] if there are none."""
        pending: list[PendingRequest] = []
        for _ in range(self._call_size(workers)):
            if self._retries:
                pending.append(self._retries.popleft())
            elif not self._exhausted:
                try:
                    pending.append(PendingRequest(self._taken, next(self._requests)))
                except StopIteration:
                    self._exhausted = True
                    break
                self._outstanding[self._taken] = pending[-1]
                self._taken += 1
        return pending

    def _call_size(self, workers: int) -> int:
        """Number of requests in the next call.

        It is `at_once` if the objective has `many`. Otherwise it is 1, or more if the objective is quick: then the
        requests are divided evenly among the workers.
        """
        if self._limits.at_once > 1:
            return self._limits.at_once
        if self._count is None or self._ahead < 1 or self._workers.seconds > QUICK_SECONDS:
            return 1
        remaining = self._count - self._taken + len(self._retries)
        even = -(-remaining // (workers * (self._ahead + 1)))
        return max(1, min(even, CALL_REQUESTS, int(CALL_SECONDS / max(self._workers.seconds, 1e-9))))

    # Receiving

    def _receive(self) -> None:
        """Wait for a result, an answer to a ping or a time limit, and act on what has come."""
        pings = self._workers.poll()
        calls = {call.reference: (worker, call) for worker in self._workers for call in worker.unfinished}
        seconds = self._seconds_to_wait()
        awaited = [*calls, *pings]
        if awaited:
            ready, _ = ray.wait(awaited, num_returns=1, timeout=seconds)
            if ready and len(awaited) > 1:
                ready, _ = ray.wait(awaited, num_returns=len(awaited), timeout=0)
            if pings:
                self._workers.receive_pings(ready)
            self._read([calls[reference] for reference in ready if reference in calls])
        else:
            time.sleep(RETRY_SECONDS)
        self._kill_overdue()
        self._workers.check_alive()

    def _seconds_to_wait(self) -> float:
        """Seconds until the next poll or timeout. Records when a call has come to the head of its worker's queue."""
        now = time.monotonic()
        all_known = all(worker.up or worker.pending_ping for worker in self._workers)
        due = now + (POLL_SECONDS if all_known else RETRY_SECONDS)
        for worker in self._workers.up:
            head = worker.head
            if head is not None:
                head.head_since = head.head_since or now
                due = min(due, head.head_since + self._call_timeout)
        return max(0.0, due - now)

    @property
    def _call_timeout(self) -> float:
        """Seconds that one call may take. A call that quick evaluations share has the limit of a single evaluation."""
        return math.inf if self._limits.timeout is None else self._limits.timeout * self._limits.at_once

    def _read(self, calls: list[tuple[Worker, Call]]) -> None:
        """Read the results of finished calls; see to the workers that died."""
        failed: list[tuple[Worker, RayError | None]] = []
        for (worker, call), result in zip(calls, _get_results([call.reference for _, call in calls]), strict=True):
            if isinstance(result, RayTaskError):  # the worker lives, but its result cannot be pickled
                reason = f"the worker could not evaluate: {last_line(result)}"
                if len(call.pending) > 1:
                    self._retry_exclusively(call.pending)
                    result, call.pending = [], []
                else:
                    result = [Evaluation(None, error=reason)] * len(call.pending)
            if result is None or isinstance(result, RayError):
                failed.append((worker, result))
            elif call.pending:
                call.done = True
                self._results.append(CallResult(call.pending, result, worker, call))
            else:
                worker.queue.remove(call)
        for worker, error in failed:
            if worker.unfinished:  # otherwise another call of the same worker has shown its death already
                self._handle_death(worker, error)

    def _handle_death(self, worker: Worker, error: RayError | None) -> None:
        """Send again what a dead worker had in its queue, or count its request as failed.

        Any request of the queue may be the cause: the result of a finished call is lost if the worker dies in the next
        one before the result has been sent. `error` is None if the worker had died before it got the calls.
        """
        died = worker.take_unfinished()
        worker.on_death()
        pending = [one for call in died for one in call.pending]
        if error is None:
            self._retries.extendleft(reversed(pending))
            return
        for one in died[0].pending:
            one.deaths.append(worker.node)
        if len(died) == len(pending) == 1 and self._is_cause(pending[0]):
            deaths = len(pending[0].deaths)
            reason = f"the worker died {deaths} time{'s' * (deaths > 1)}: {type(error).__name__}"
            self._results.append(CallResult(pending, [Evaluation(None, error=reason)]))
        else:
            self._retry_exclusively(pending)

    def _is_cause(self, one: PendingRequest) -> bool:
        """Whether enough workers died with this request to count it as the cause.

        Workers whose node died, too, count only from NODE_DEATHS times as many deaths on.
        """
        if len(one.deaths) < self._limits.attempts:
            return False
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]
        deaths = sum(node in alive for node in one.deaths)
        return deaths >= self._limits.attempts or len(one.deaths) >= NODE_DEATHS * self._limits.attempts

    def _kill_overdue(self) -> None:
        """Restart the workers whose call takes longer than the timeout; the calls behind it are sent again."""
        now = time.monotonic()
        for worker in self._workers.up:
            head = worker.head
            if head is None or head.head_since is None or now - head.head_since < self._call_timeout:
                continue
            _, *behind = worker.take_unfinished()
            worker.kill()
            if len(head.pending) == 1:
                reason = f"timed out after {self._call_timeout:g} s"
                evaluation = Evaluation(None, seconds=now - head.head_since, error=reason)
                self._results.append(CallResult(head.pending, [evaluation]))
            else:
                self._retry_exclusively(head.pending)
            self._retries.extendleft(one for call in reversed(behind) for one in reversed(call.pending))

    def _retry_exclusively(self, pending: list[PendingRequest]) -> None:
        for one in pending:
            one.exclusive = True
        self._exclusive.extend(pending)

    # Yielding

    def _yield_result(self, result: CallResult) -> Generator[tuple[int, Evaluation], None, None]:
        """Yield the evaluations of a call, except those that ran out of memory and are to be sent again."""
        if result.worker is not None and result.call is not None:
            result.worker.queue.remove(result.call)
        for one, evaluation in zip(result.pending, result.evaluations, strict=True):
            if evaluation.out_of_memory:
                one.memory_failures += 1
                if one.memory_failures < self._limits.attempts:
                    self._retry_exclusively([one])
                    continue
                evaluation = replace(evaluation, error=f"{evaluation.error} (tried {one.memory_failures} times)")
            if evaluation.loss is not None:
                self._workers.record_seconds(evaluation.seconds)
            del self._outstanding[one.index]
            yield one.index, evaluation


def _get_results(references: list[Any]) -> list[list[Evaluation] | RayError | None]:
    """Return the results of finished calls, an error in place of the result of a failed one.

    They are fetched together, and one by one only if a call failed.
    """
    try:
        return ray.get(references)
    except RayError:
        return [_get_result(reference) for reference in references]


def _get_result(reference: Any) -> list[Evaluation] | RayError | None:
    try:
        return ray.get(reference)
    except RayError as error:
        return error
