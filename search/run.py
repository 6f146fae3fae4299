"""The loop: seed, ask, evaluate, record, tell, stop.

A search is replayed from its history before it goes on: recorded losses are fed to a fresh plan, whose candidates must
be the recorded ones. A batch is told only when all of it is evaluated, so that N evaluations and then M more are the
same as N + M, wherever the break falls, and for any number of workers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from .errors import SearchError, TooManyFailures
from .history import History, Record
from .optimizer import check_optimizer
from .plan import Batch, Plan
from .pool import Evaluation, LocalPool, Objective, Pool
from .population import Population
from .progress import Progress
from .replay import check_replay
from .result import SearchResult, best_record, make_result
from .settings import SearchSettings, check_same, fingerprint, versions

FAILURES_IN_A_ROW = 10


def run_search(
    objective: Objective | None,
    population: Population,
    settings: SearchSettings,
    *,
    history_path: str | Path,
    key: str,
    pool: Pool | None = None,
    on_evaluation: Callable[[Progress], None] | None = None,
) -> SearchResult:
    """Search from `population` until the budget is spent; resume if the history already has this `key`.

    A given `pool` holds the objective itself, and is left open. `key` tells apart the searches in one history file.

    Raises:
        ResumeMismatch: the history was begun with other settings, or another version of the optimizer.
        TooManyFailures: ten evaluations in a row failed.
        RunLocked: another process is writing this history.
        UnknownOptimizer: no such optimizer, or its installed version does not work.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> seeds = Population(np.random.default_rng(0).normal(size=(8, 4)), ["drawn"] * 8)
        >>> path = Path(tempfile.mkdtemp()) / "history.jsonl"
        >>> run_search(lambda v: float(v @ v), seeds, SearchSettings(), history_path=path, key="sphere").evaluations
        300
    """
    check_optimizer(settings.optimizer)
    if pool is None:
        if objective is None:
            raise SearchError("no objective and no pool\nnothing says what a candidate is worth\npass one of the two")
        pool = LocalPool(objective)
    with History(history_path, key) as history:
        return _Search(history, population, settings, pool, on_evaluation).run()


class _Search:
    """One session of a search, with its open history."""

    def __init__(
        self,
        history: History,
        population: Population,
        settings: SearchSettings,
        pool: Pool,
        on_evaluation: Callable[[Progress], None] | None,
    ) -> None:
        self._history = history
        self._where = f"{history.path}, search {history.key!r},"
        self._budget = settings.budget
        self._pool = pool
        self._on_evaluation = on_evaluation
        self._plan = Plan(population, settings)
        self._resumed = len(history.records)
        self._earlier = history.records[-1].elapsed if history.records else 0.0
        self._begun = time.monotonic()
        self._best = best_record(history.records)
        header = fingerprint(settings, population)
        if history.header is None:
            history.begin({"settings": header, "versions": versions()})
        else:
            check_same(history.header["settings"], header, self._where)

    def run(self) -> SearchResult:
        records = self._history.records
        batches = self._plan.batches()
        batch = next(batches)
        begun_at = 0
        while True:
            check_replay(batch, records[begun_at : begun_at + len(batch.vectors)], self._history.header, self._where)
            stopped = self._complete(batch, begun_at)
            if stopped is not None:
                return make_result(records, self._plan, self._elapsed(), stopped, self._resumed)
            begun_at += len(batch.vectors)
            batch = batches.send([record.loss for record in records[begun_at - len(batch.vectors) : begun_at]])

    def _complete(self, batch: Batch, begun_at: int) -> str | None:
        """Evaluate what is missing of `batch`; returns the limit that was reached, if any."""
        done = len(self._history.records) - begun_at
        if done >= len(batch.vectors):
            return None
        stopped = self._stopped()
        if stopped is not None:
            return stopped
        left = self._budget.left(len(self._history.records))
        end = len(batch.vectors) if left is None else min(len(batch.vectors), done + left)
        with closing(self._pool.stream(batch.vectors[done:end])) as evaluations:
            for position, evaluation in enumerate(evaluations, start=done):
                self._record(batch, position, evaluation)
                stopped = self._stopped()
                if stopped is not None:
                    return stopped
        return None

    def _record(self, batch: Batch, position: int, evaluation: Evaluation) -> None:
        record = Record(
            index=len(self._history.records),
            batch=batch.number,
            phase=batch.phase,
            origin=batch.origins[position],
            coordinates=None if batch.coordinates is None else batch.coordinates[position].tolist(),
            loss=evaluation.loss,
            metrics=dict(evaluation.metrics),
            seconds=evaluation.seconds,
            elapsed=self._elapsed(),
            error=evaluation.error,
        )
        self._history.append(record)
        self._best = best_record([record] if self._best is None else [self._best, record])
        if self._on_evaluation is not None:
            self._on_evaluation(self._progress())
        self._check_failures()

    def _check_failures(self) -> None:
        last = self._history.records[self._resumed :][-FAILURES_IN_A_ROW:]
        if len(last) == FAILURES_IN_A_ROW and all(record.error is not None for record in last):
            raise TooManyFailures(
                f"{self._where} stopped: evaluations {last[0].index} to {last[-1].index} all failed\n"
                f"the first of them: {last[0].error}\n"
                "mend the objective, then resume; what was evaluated is kept"
            )

    def _stopped(self) -> str | None:
        done = len(self._history.records)
        best = self._best
        # Patience begins when the seeds are evaluated: they are no search yet.
        since = done - max(len(self._plan.seeds), 0 if best is None else best.index + 1)
        return self._budget.stopped_by(done, self._elapsed(), None if best is None else best.loss, since)

    def _elapsed(self) -> float:
        return self._earlier + time.monotonic() - self._begun

    def _progress(self) -> Progress:
        done = len(self._history.records)
        left = self._budget.left(done)
        pace = (time.monotonic() - self._begun) / max(1, done - self._resumed)
        return Progress(
            done=done,
            total=self._budget.evaluations,
            best_loss=None if self._best is None else self._best.loss,
            failures=sum(record.error is not None for record in self._history.records),
            seconds=self._elapsed(),
            eta=None if left is None else left * pace,
        )
