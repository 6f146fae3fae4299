"""The search loop: ask, evaluate, record and tell until the budget is spent.

A search is replayed from its history before it goes on: the recorded feedback is given to a fresh plan, whose
candidates must be the recorded ones. A batch is told only when all of it is evaluated. So N evaluations and then M more
are the same as N + M, wherever the break is, and for any number of workers. (`mode: async` is in run_async.py.)
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any

from ..errors import SearchError
from ..optimizers.names import check_optimizer
from ..pools.local import LocalPool
from ..pools.pool import Objective, Pool, Request, in_order
from .history import History
from .plan import Batch, BatchFeedback, Plan
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
    """Search from `population` until the budget is spent; resume the search if the history has this `key` already.

    Args:
        objective: may be None with a `pool`, which holds the objective itself.
        key: name of this search in the history file, which may hold several searches.
        pool: where candidates are evaluated; it is left open. None means in this process.
        on_evaluation: called after each evaluation.

    Raises:
        ResumeMismatch: the history was begun with other settings, or another version of the optimizer.
        TooManyFailures: ten evaluations in a row failed.
        RunLocked: another process is writing this history.
        UnknownOptimizer: there is no such optimizer, or its installed version does not work.
        SearchError: there is neither an objective nor a pool, or there are rungs and the objective has no `look`.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> seeds = Population(np.random.default_rng(0).normal(size=(8, 4)), ["drawn"] * 8)
        >>> path = Path(tempfile.mkdtemp()) / "history.jsonl"
        >>> run_search(lambda v: float(v @ v), seeds, SearchSettings(), history_path=path, key="sphere").evaluations
        300
    """
    pool = _check_arguments(objective, population, settings, pool)
    with History(history_path, key) as history:
        plan = Plan(population, settings)
        session = Session(history, plan, settings, pool, on_evaluation)
        _check_header(history, fingerprint(settings, population), session.where)
        stopped = _run_batches(plan.seed_batches(), session, pool)
        if stopped is None and settings.mode == "async":
            stopped = run_async(plan, session, pool)
        elif stopped is None:
            stopped = _run_batches(plan.search_batches(), session, pool)
        assert stopped is not None, "the batches of a search have no end"
        return make_result(history.records, plan, settings, session.elapsed, stopped, session.resumed)


def _check_arguments(
    objective: Objective | None, population: Population, settings: SearchSettings, pool: Pool | None
) -> Pool:
    """Refuse what cannot be searched, before the history is opened; return the pool to evaluate with."""
    # In the other spaces the number of coordinates is only known when the seeds are evaluated.
    dim = population.dim if settings.space in ("identity", "std") else None
    check_optimizer(settings.optimizer, dim, settings.batch, len(settings.objectives) if settings.pareto else 1)
    if pool is None:
        if objective is None:
            raise SearchError("no objective and no pool\nnothing can evaluate a candidate\npass one of the two")
        pool = LocalPool(objective)
    if settings.rungs and objective is not None and not hasattr(objective, "look"):
        raise SearchError(
            f"the objective {objective!r} cannot race\n"
            "it has no method look(vector, share, carry) for a share of its examples\n"
            "add one, or leave the rungs out"
        )
    return pool


def _check_header(history: History, settings: dict[str, Any], where: str) -> None:
    """Write the header of a new search, or check that a recorded search has the same settings."""
    if history.header is None:
        history.begin({"settings": settings, "versions": versions()})
    else:
        check_same(history.header.get("settings", {}), settings, where)


def _run_batches(batches: Generator[Batch, BatchFeedback, None], session: Session, pool: Pool) -> str | None:
    """Evaluate what has no record yet; return the limit that was reached, None at the end of the batches."""
    batch = next(batches)
    carried: dict[int, Any] = {}  # in a race: what the last look at each candidate returned for the next
    while True:
        first = _replay(batch, session)
        stopped = _evaluate_missing(batch, first, session, pool, carried)
        if stopped is not None:
            return stopped
        records = session.history.records[first : first + len(batch.candidates)]
        try:
            next_batch = batches.send([record.feedback for record in records])
        except StopIteration:
            return None
        if next_batch.number != batch.number:
            carried.clear()
        batch = next_batch


def _replay(batch: Batch, session: Session) -> int:
    """Check the recorded candidates of `batch`; return the index that its first record has or will have."""
    first = session.replayed
    for candidate, record in zip(batch.candidates, session.history.records[first:], strict=False):
        check_replay(candidate, record, session.history.header, session.where)
    session.replayed += len(batch.candidates)
    return first


def _evaluate_missing(batch: Batch, first: int, session: Session, pool: Pool, carried: dict[int, Any]) -> str | None:
    """Evaluate the candidates of `batch` that have no record; return the limit that was reached, if any."""
    recorded = len(session.history.records) - first
    if recorded >= len(batch.candidates):
        return None
    missing = batch.candidates[recorded:]
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
