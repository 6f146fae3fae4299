"""The loop: seed, ask, evaluate, record, tell, stop.

A search is replayed from its history before it goes on: recorded losses are fed to a fresh plan, whose candidates must
be the recorded ones. A batch is told only when all of it is evaluated, so that N evaluations and then M more are the
same as N + M, wherever the break falls, and for any number of workers. (`mode: async` is in run_async.py.)
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any

from ..errors import SearchError
from ..optimizers.optimizer import check_optimizer
from ..pools.local import LocalPool
from ..pools.pool import Objective, Pool, Request, in_order
from .history import History
from .plan import Batch, Plan, Told
from .population import Population
from .progress import Progress
from .replay import check_replay
from .result import SearchResult, make_result
from .run_async import run_async
from .session import Session
from .settings import SearchSettings, check_same, fingerprint, versions


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
        SearchError: rungs, and an objective without `look`.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> seeds = Population(np.random.default_rng(0).normal(size=(8, 4)), ["drawn"] * 8)
        >>> path = Path(tempfile.mkdtemp()) / "history.jsonl"
        >>> run_search(lambda v: float(v @ v), seeds, SearchSettings(), history_path=path, key="sphere").evaluations
        300
    """
    dim = population.dim if settings.space in ("identity", "std") else None  # else the seeds decide, when evaluated
    check_optimizer(settings.optimizer, dim, settings.batch, len(settings.objectives) if settings.pareto else 1)
    if pool is None:
        if objective is None:
            raise SearchError("no objective and no pool\nnothing says what a candidate is worth\npass one of the two")
        pool = LocalPool(objective)
    if settings.rungs and objective is not None and not hasattr(objective, "look"):
        raise SearchError(
            f"the objective {objective!r} cannot race\n"
            "it has no method look(vector, share, carry) for a share of its examples\n"
            "add one, or leave the rungs out"
        )
    with History(history_path, key) as history:
        header = fingerprint(settings, population)
        plan = Plan(population, settings)
        session = Session(history, plan, settings, pool, on_evaluation)
        if history.header is None:
            history.begin({"settings": header, "versions": versions()})
        else:
            check_same(history.header["settings"], header, session.where)
        stopped = _run_batches(plan.seed_batches(), session, pool)
        if stopped is None and settings.mode == "async":
            stopped = run_async(plan, session, pool)
        elif stopped is None:
            stopped = _run_batches(plan.search_batches(), session, pool)
        assert stopped is not None, "the search's own batches have no end"
        return make_result(history.records, plan, settings, session.elapsed, stopped, session.resumed)


def _run_batches(batches: Generator[Batch, Told, None], session: Session, pool: Pool) -> str | None:
    """Evaluate what is not recorded yet. Returns the limit that was reached, or None at the end of the batches."""
    batch = next(batches)
    carried: dict[int, Any] = {}  # of a race: what a candidate's last look has handed on
    while True:
        begun_at = _replayed(batch, session)
        stopped = _complete(batch, begun_at, session, pool, carried)
        if stopped is not None:
            return stopped
        records = session.history.records[begun_at : begun_at + len(batch.candidates)]
        try:
            following = batches.send([record.worth for record in records])
        except StopIteration:
            return None
        if following.number != batch.number:
            carried.clear()
        batch = following


def _replayed(batch: Batch, session: Session) -> int:
    """Check what is recorded of `batch`; returns the index of its first record."""
    begun_at = session.replayed
    for candidate, record in zip(batch.candidates, session.history.records[begun_at:], strict=False):
        check_replay(candidate, record, session.history.header, session.where)
    session.replayed += len(batch.candidates)
    return begun_at


def _complete(batch: Batch, begun_at: int, session: Session, pool: Pool, carried: dict[int, Any]) -> str | None:
    """Evaluate what is missing of `batch`; returns the limit that was reached, if any."""
    missing = batch.candidates[len(session.history.records) - begun_at :]
    if len(session.history.records) - begun_at >= len(batch.candidates):
        return None
    stopped = session.stopped()
    if stopped is not None:
        return stopped
    started = missing[: session.affordable(batch.cost)]
    requests = [Request(one.vector, batch.share, carried.get(one.number)) for one in started]
    with closing(in_order(pool, requests)) as evaluations:
        for candidate, evaluation in zip(started, evaluations, strict=True):
            session.record(batch, candidate, evaluation)
            carried[candidate.number] = evaluation.carry
            stopped = session.stopped()
            if stopped is not None:
                return stopped
    return None if len(started) == len(missing) else "evaluations"
