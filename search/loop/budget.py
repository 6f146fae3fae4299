"""When a search stops: evaluations, seconds, a target loss, patience, or any of them together."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import SearchError


@dataclass(frozen=True)
class Budget:
    """Limits of a search; None is no limit. Seeds count as evaluations, and failures do too.
    Each counts by its `cost` in the settings, 1 where nothing else is said.

    `seconds` is the time of all sessions of a resumed run. `target` stops at a loss of at most this. `patience` stops
    after that many evaluations without a new best, or, of several objectives, without one that adds to their front by more
    than a hundredth of its width.

    Example:
        >>> Budget(evaluations=100, target=0.1).stopped_by(40, 3.0, best_loss=0.09, since_best=2)
        'target'
    """

    evaluations: int | None = 300  # the largest at which the cheap baselines of a search are still quick to repeat
    seconds: float | None = None
    target: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("evaluations", "seconds", "patience"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise SearchError(
                    f"budget.{name} is {value}\na limit must be above zero\nleave it out to have no such limit"
                )
        if self.target is not None and math.isnan(self.target):
            raise SearchError("budget.target is NaN\nno loss is at most NaN\ngive a number, or leave it out")
        if self.evaluations is None and self.seconds is None and self.patience is None and self.target is None:
            raise SearchError(
                "the budget has no limit at all\nsuch a search never ends\nset evaluations, seconds, target or patience"
            )

    def stopped_by(self, evaluations: float, seconds: float, best_loss: float | None, since_best: float) -> str | None:
        """The name of the limit that is reached, or None. Looks at a share of the examples count by their share."""
        if self.target is not None and best_loss is not None and best_loss <= self.target:
            return "target"
        if self.evaluations is not None and evaluations >= self.evaluations:
            return "evaluations"
        if self.seconds is not None and seconds >= self.seconds:
            return "seconds"
        if self.patience is not None and since_best >= self.patience:
            return "patience"
        return None
