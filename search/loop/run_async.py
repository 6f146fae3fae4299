"""The search loop of `mode: async`: a free worker gets the next candidate at once, and every loss is told at once.

The history then depends on which worker was faster, but the search can still be resumed: each record says how many
candidates had been asked before it, which determines the order of all asks and tells. Candidates that had been asked
but have no record are evaluated first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from contextlib import closing

from ..pools.pool import Pool, Request
from .plan import Batch, Candidate, Plan
from .replay import check_replay
from .session import Session


def run_async(plan: Plan, session: Session, pool: Pool) -> str:
    """Search from the evaluated seeds until the budget is spent; return the limit that was reached."""
    unrecorded = _replay(plan, session)
    started: list[Candidate] = []
    done = 0

    def requests() -> Generator[Request, None, None]:
        while session.stopped() is None and session.affordable(session.cost, running=len(started) - done) != 0:
            candidate = unrecorded.popleft() if unrecorded else plan.ask()
            started.append(candidate)
            yield Request(candidate.vector)

    with closing(pool.completed(requests(), ahead=0)) as finished:
        for index, evaluation in finished:
            candidate = started[index]
            batch = Batch(candidate.number, "search", [candidate], cost=session.cost)
            record = session.record(batch, candidate, evaluation)
            plan.tell(candidate, record.feedback)
            done += 1
            stopped = session.stopped()
            if stopped is not None:
                return stopped
    return session.stopped() or "evaluations"


def _replay(plan: Plan, session: Session) -> deque[Candidate]:
    """Ask and tell as recorded; return the candidates that were asked but have no record, in ask order."""
    asked: dict[int, Candidate] = {}
    for record in session.history.records[session.replayed :]:
        while plan.asked < record.asked:
            candidate = plan.ask()
            asked[candidate.number] = candidate
        candidate = asked.pop(record.candidate)
        check_replay(candidate, record, session.history.header, session.where)
        plan.tell(candidate, record.feedback)
    return deque(asked.values())
