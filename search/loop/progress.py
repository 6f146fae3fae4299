"""What a progress bar needs to know after each evaluation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """State of a running search.

    `done` counts evaluations by their cost, looks at a share of the examples by their share of it; `total` and `eta`
    (seconds) are None where the budget does not limit evaluations. `rate` is in the same units a second of this session,
    `busy` the share of the workers' time (0 to 1) that the objective took, `front` the size of the Pareto front, 0 where
    none is sought.
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
