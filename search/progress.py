"""What a progress bar needs to know after each evaluation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """State of a running search; `total` and `eta` (seconds) are None where the budget does not limit evaluations."""

    done: int
    total: int | None
    best_loss: float | None
    failures: int
    seconds: float
    eta: float | None
