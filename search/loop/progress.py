"""The state of a running search, as a progress bar shows it after each evaluation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """State of a running search.

    `done` is the number of evaluations, each counted by its cost and a look by its share of the examples. `total` is
    the budget's limit on it, and `eta` the seconds until it is reached; both are None if the budget has no such limit.
    `best_loss` is None before the first success. `failures` is the number of failed evaluations, `seconds` the time of
    all sessions, and `rate` the evaluations per second of this session. `busy` is the share of the workers' time, 0 to
    1, that was spent in the objective. `front` is the size of the Pareto front, 0 if the search has none.
    """

    done: float
    total: int | None
    best_loss: float | None
    failures: int
    seconds: float
    eta: float | None
    rate: float
    workers: int
    busy: float
    front: int
