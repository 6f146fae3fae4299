"""What a search found. The best is the best of the history, never an optimizer's recommendation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .history import Record

if TYPE_CHECKING:
    from .plan import Plan  # brings Nevergrad, which `import search` does without


@dataclass(frozen=True)
class SearchResult:
    """The outcome of all sessions of one search.

    `best_vector` (dim,), `best_loss` and `best_index` are None where every evaluation failed. `seeds` counts the
    evaluated seeds, the population's mean included. `stopped_by` names the limit of the budget that was reached.
    `resumed` is the number of evaluations that earlier sessions had recorded.
    """

    best_vector: np.ndarray | None
    best_loss: float | None
    best_index: int | None
    best_origin: str | None
    best_metrics: dict[str, float]
    best_seed_loss: float | None
    evaluations: int
    seeds: int
    failures: int
    seconds: float
    stopped_by: str
    space_name: str | None
    space_reason: str | None
    space_dim: int | None
    resumed: int


def best_record(records: Sequence[Record]) -> Record | None:
    """The first record of the lowest loss; None where all failed."""
    return min((record for record in records if record.loss is not None), key=_loss, default=None)


def make_result(records: Sequence[Record], plan: Plan, seconds: float, stopped_by: str, resumed: int) -> SearchResult:
    """Sum up the history of a search."""
    best, space = best_record(records), plan.space
    best_seed = best_record([record for record in records if record.phase == "seed"])
    return SearchResult(
        best_vector=None if best is None else _vector(best, plan),
        best_loss=None if best is None else best.loss,
        best_index=None if best is None else best.index,
        best_origin=None if best is None else best.origin,
        best_metrics={} if best is None else {k: v for k, v in best.metrics.items() if v is not None},
        best_seed_loss=None if best_seed is None else best_seed.loss,
        evaluations=len(records),
        seeds=sum(record.phase == "seed" for record in records),
        failures=sum(record.error is not None for record in records),
        seconds=seconds,
        stopped_by=stopped_by,
        space_name=None if space is None else space.name,
        space_reason=None if space is None else space.reason,
        space_dim=None if space is None else space.dim,
        resumed=resumed,
    )


def _loss(record: Record) -> float:
    return float("inf") if record.loss is None else record.loss


def _vector(record: Record, plan: Plan) -> np.ndarray:
    if record.coordinates is None or plan.space is None:
        return np.array(plan.seeds.vectors[record.index])
    return plan.space.to_vector(np.array(record.coordinates))
