"""One session of a search: it records evaluations, and keeps account of the budget and of the best so far."""

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

FAILURES_IN_A_ROW = 10  # failures in a row that end a search
_ROUNDING = 1e-9  # largest rounding error of a sum of shares
# A new point of the front counts as an improvement only if it beats each of the others in some objective by more than
# this share of the front's width there (epsilon dominance).
_FRONT_EPSILON = 0.01


class Session:
    """Records the evaluations of one process and keeps account of them, those of earlier sessions included.

    `resumed` is the number of records of earlier sessions, `replayed` the number of records that the plan has gone
    through, and `cost` that of one evaluation. `where` names the history and the search in messages.
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
        self.replayed = 0
        self.cost = settings.cost
        self._plan = plan
        self._settings = settings
        self._budget = settings.budget
        self._pool = pool
        self._on_evaluation = on_evaluation
        self._earlier_seconds = history.records[-1].elapsed if history.records else 0.0
        self._started_at = time.monotonic()
        self._spent = sum(record.cost for record in history.records)
        self._spent_earlier = self._spent
        self._busy_seconds = 0.0
        self._failures = 0
        self._best: Record | None = None
        self._front: list[list[float]] = []
        self._improved_at = 0.0  # what was spent at the last improvement
        spent = 0.0
        for record in history.records:
            spent += record.cost
            self._update_best(record, spent)

    @property
    def elapsed(self) -> float:
        """Time of all sessions in seconds."""
        return self._earlier_seconds + time.monotonic() - self._started_at

    def affordable(self, cost: float, running: int = 0) -> int | None:
        """Number of evaluations of `cost` that may be started beside the `running` ones; None without a limit."""
        if self._budget.evaluations is None:
            return None
        return max(0, int((self._budget.evaluations - self._spent) / cost + _ROUNDING) - running)

    def stopped(self) -> str | None:
        """Name of the limit that is reached, None if there is none."""
        best = None if self._best is None else self._best.loss
        # Patience begins when all seeds are evaluated, because until then nothing has been searched.
        since = self._spent - max(len(self._plan.seeds) * self.cost, self._improved_at)
        return self._budget.stopped_by(self._spent + _ROUNDING, self.elapsed, best, since + _ROUNDING)

    def record(self, batch: Batch, candidate: Candidate, evaluation: Evaluation) -> Record:
        """Judge an evaluation and append it to the history.

        Raises:
            TooManyFailures: ten evaluations in a row failed.
        """
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
        self._busy_seconds += record.seconds
        self._update_best(record, self._spent)
        if self._on_evaluation is not None:
            self._on_evaluation(self.progress())
        self._check_failures()
        return record

    def progress(self) -> Progress:
        """Return the state of the search at this moment."""
        seconds = max(time.monotonic() - self._started_at, 1e-9)
        rate = (self._spent - self._spent_earlier) / seconds
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
            busy=min(1.0, self._busy_seconds / (seconds * self._pool.size)),
            front=len(self._front),
        )

    def _update_best(self, record: Record, spent: float) -> None:
        """Update the number of failures, the best record, the front, and the time of the last improvement."""
        self._failures += record.error is not None
        if record.loss is None or not record.full:
            return
        if self._best is None or self._best.loss is None or record.loss < self._best.loss:
            self._best = record
            if record.values is None:
                self._improved_at = spent
        values = record.values
        if values is None or any(_weakly_dominates(one, values) for one in self._front):
            return
        # A front can grow endlessly by points between its points, so that only points at some distance count.
        slack = [_FRONT_EPSILON * (max(column) - min(column)) for column in zip(*self._front, strict=True)]
        if not any(_weakly_dominates(one, values, slack) for one in self._front):
            self._improved_at = spent
        self._front = [one for one in self._front if not _weakly_dominates(values, one)] + [values]

    def _check_failures(self) -> None:
        last = self.history.records[self.resumed :][-FAILURES_IN_A_ROW:]
        if len(last) == FAILURES_IN_A_ROW and all(record.error is not None for record in last):
            raise TooManyFailures(
                f"{self.where} stopped: evaluations {last[0].index} to {last[-1].index} all failed\n"
                f"the first of them: {last[0].error}\n"
                "mend the objective, then resume; what was evaluated is kept"
            )


def _weakly_dominates(one: list[float], other: list[float], slack: Sequence[float] | None = None) -> bool:
    """Whether `one` is in no objective worse than `other` by more than `slack`, which is zero by default."""
    return all(a <= b + s for a, b, s in zip(one, other, slack or [0.0] * len(one), strict=True))
