"""The result of a search. Its best candidate is the best of the history, never an optimizer's recommendation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..optimizers.pareto import knee, nondominated
from .history import Record

if TYPE_CHECKING:
    from .plan import Plan  # imports Nevergrad, which would slow `import search` down
    from .settings import SearchSettings


@dataclass(frozen=True)
class FrontPoint:
    """A point of the Pareto front: no candidate is at least as good in all objectives and better in one.

    `vector` is (dim,), `values` are in the order of the objectives in the settings, and `index` is that of the record.
    """

    index: int
    vector: np.ndarray
    values: tuple[float, ...]
    metrics: dict[str, float]


@dataclass(frozen=True)
class SearchResult:
    """The result of all sessions of one search.

    `best_vector` (dim,), `best_loss` and `best_index` (that of the record) are None if every evaluation failed. In a
    Pareto search the best is the knee of `front`, and `best_loss` is its first objective. `evaluations` is what was
    spent of the budget, rounded up: each evaluation counts by its cost, and a look by its share of it. `looks` is the
    number of records. `seeds` is the number of evaluated seeds, including the population's mean. `seconds` is the time
    of all sessions. `stopped_by` is the name of the limit of the budget that was reached. `resumed` is the number of
    records of earlier sessions. `front` is empty unless the search is a Pareto search.
    """

    best_vector: np.ndarray | None
    best_loss: float | None
    best_index: int | None
    best_origin: str | None
    best_metrics: dict[str, float]
    best_seed_loss: float | None
    evaluations: int
    looks: int
    seeds: int
    failures: int
    seconds: float
    stopped_by: str
    space_name: str | None
    space_reason: str | None
    space_dim: int | None
    resumed: int
    front: list[FrontPoint] = field(default_factory=list)


def best_record(records: Sequence[Record]) -> Record | None:
    """Return the first record with the lowest loss on all examples, None if all of them failed."""
    return min((record for record in records if record.loss is not None and record.full), key=_loss, default=None)


def make_result(
    records: Sequence[Record], plan: Plan, settings: SearchSettings, seconds: float, stopped_by: str, resumed: int
) -> SearchResult:
    """Summarise the history of a search."""
    best, space = best_record(records), plan.space
    best_seed = best_record([record for record in records if record.phase == "seed"])
    front: list[Record] = []
    if settings.pareto and best is not None:
        known = [record for record in records if record.values is not None]
        on_front = nondominated(np.array([record.values for record in known]))
        front = [record for record, is_on in zip(known, on_front, strict=True) if is_on]
        best = front[knee(np.array([record.values for record in front]))]
    return SearchResult(
        best_vector=None if best is None else _vector(best, plan),
        best_loss=None if best is None else best.loss,
        best_index=None if best is None else best.index,
        best_origin=None if best is None else best.origin,
        best_metrics={} if best is None else _metrics(best),
        best_seed_loss=None if best_seed is None else best_seed.loss,
        evaluations=math.ceil(sum(record.cost for record in records) - 1e-9),
        looks=len(records),
        seeds=sum(record.phase == "seed" for record in records),
        failures=sum(record.error is not None for record in records),
        seconds=seconds,
        stopped_by=stopped_by,
        space_name=None if space is None else space.name,
        space_reason=None if space is None else space.reason,
        space_dim=None if space is None else space.dim,
        resumed=resumed,
        front=[
            FrontPoint(record.index, _vector(record, plan), tuple(record.values or ()), _metrics(record))
            for record in front
        ],
    )


def _loss(record: Record) -> float:
    return float("inf") if record.loss is None else record.loss


def _metrics(record: Record) -> dict[str, float]:
    return {name: value for name, value in record.metrics.items() if value is not None}


def _vector(record: Record, plan: Plan) -> np.ndarray:
    """The vector (dim,) of a recorded candidate: a seed, or the point of the space at its coordinates."""
    if record.coordinates is None or plan.space is None:
        return np.array(plan.seeds.vectors[record.candidate])
    return plan.space.to_vector(np.array(record.coordinates))
