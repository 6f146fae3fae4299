"""One session of a search: its open history, what is spent of the budget, the best so far, and when to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ..errors import TooManyFailures
from ..pools.pool import Evaluation, Pool
from .history import History, Record
from .judge import judge
from .plan import Batch, Candidate, Plan
from .progress import Progress
from .settings import SearchSettings

FAILURES_IN_A_ROW = 10
_ROUNDING = 1e-9  # of sums of shares
_WORTH_IT = (
    0.01  # of the front's width in an objective, by which a new point must beat each one there (epsilon dominance)
)


class Session:
    """Records evaluations and keeps account of them.

    Raises:
        TooManyFailures: from `record`, after ten failures in a row.
    """

    def __init__(
        self,
        history: History,
        plan: Plan,
        settings: SearchSettings,
        pool: Pool,
        on_evaluation: Callable[[Progress], None] | None,
    ) -> None:
        self.history = history
        self.where = f"{history.path}, search {history.key!r},"
        self.resumed = len(history.records)
        self.replayed = 0  # records that the plan has been through
        self.cost = settings.cost  # of one evaluation
        self._plan = plan
        self._settings = settings
        self._budget = settings.budget
        self._pool = pool
        self._on_evaluation = on_evaluation
        self._earlier = history.records[-1].elapsed if history.records else 0.0
        self._begun = time.monotonic()
        self._spent = sum(record.cost for record in history.records)
        self._spent_before = self._spent
        self._busy = 0.0
        self._failures = 0
        self._best: Record | None = None
        self._front: list[list[float]] = []
        self._improved_at = 0.0
        spent = 0.0
        for record in history.records:
            spent += record.cost
            self._note(record, spent)

    @property
    def elapsed(self) -> float:
        """Seconds of all sessions."""
        return self._earlier + time.monotonic() - self._begun

    def affordable(self, cost: float, running: int = 0) -> int | None:
        """How many more evaluations of `cost` may be started beside those that run; None without a limit."""
        if self._budget.evaluations is None:
            return None
        return max(0, int((self._budget.evaluations - self._spent) / cost + _ROUNDING) - running)

    def stopped(self) -> str | None:
        """The limit that is reached, if any."""
        best = None if self._best is None else self._best.loss
        # Patience begins when the seeds are evaluated: they are no search yet.
        since = self._spent - max(len(self._plan.seeds) * self.cost, self._improved_at)
        return self._budget.stopped_by(self._spent + _ROUNDING, self.elapsed, best, since + _ROUNDING)

    def record(self, batch: Batch, candidate: Candidate, evaluation: Evaluation) -> Record:
        """Judge an evaluation and append it to the history."""
        judged, values = judge(evaluation, self._settings)
        record = Record(
            index=len(self.history.records),
            candidate=candidate.number,
            asked=self._plan.asked,
            batch=batch.number,
            phase=batch.phase,
            origin=candidate.origin,
            coordinates=None if candidate.coordinates is None else candidate.coordinates.tolist(),
            share=1.0 if batch.share is None else batch.share,
            cost=batch.cost,
            loss=judged.loss,
            values=None if values is None else list(values),
            metrics=dict(judged.metrics),
            seconds=judged.seconds,
            elapsed=self.elapsed,
            error=judged.error,
        )
        self.history.append(record)
        self._spent += record.cost
        self._busy += record.seconds
        self._note(record, self._spent)
        if self._on_evaluation is not None:
            self._on_evaluation(self.progress())
        self._check_failures()
        return record

    def progress(self) -> Progress:
        """The state of the search now."""
        seconds = max(time.monotonic() - self._begun, 1e-9)
        rate = (self._spent - self._spent_before) / seconds
        limit = self._budget.evaluations
        return Progress(
            done=self._spent,
            total=limit,
            best_loss=None if self._best is None else self._best.loss,
            failures=self._failures,
            seconds=self.elapsed,
            eta=None if limit is None or not rate else max(0.0, limit - self._spent) / rate,
            rate=rate,
            workers=self._pool.size,
            busy=min(1.0, self._busy / (seconds * self._pool.size)),
            front=len(self._front),
        )

    def _note(self, record: Record, spent: float) -> None:
        """Count `record`, and whether it improves on what there is."""
        self._failures += record.error is not None
        if record.loss is None or not record.full:
            return
        if self._best is None or self._best.loss is None or record.loss < self._best.loss:
            self._best = record
            if record.values is None:
                self._improved_at = spent
        values = record.values
        if values is None or any(_covers(one, values) for one in self._front):
            return
        # A front may grow for ever by points between its points: only those that are worth it keep patience waiting.
        slack = [_WORTH_IT * (max(column) - min(column)) for column in zip(*self._front, strict=True)]
        if not any(_covers(one, values, slack) for one in self._front):
            self._improved_at = spent
        self._front = [one for one in self._front if not _covers(values, one)] + [values]

    def _check_failures(self) -> None:
        last = self.history.records[self.resumed :][-FAILURES_IN_A_ROW:]
        if len(last) == FAILURES_IN_A_ROW and all(record.error is not None for record in last):
            raise TooManyFailures(
                f"{self.where} stopped: evaluations {last[0].index} to {last[-1].index} all failed\n"
                f"the first of them: {last[0].error}\n"
                "mend the objective, then resume; what was evaluated is kept"
            )


def _covers(one: list[float], other: list[float], slack: Sequence[float] | None = None) -> bool:
    """Whether `one` is nowhere worse than `other` by more than `slack`."""
    return all(a <= b + s for a, b, s in zip(one, other, slack or [0.0] * len(one), strict=True))
