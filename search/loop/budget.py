"""The budget of a search: a limit on evaluations, seconds, loss or patience, or several of them together."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import SearchError


@dataclass(frozen=True)
class Budget:
    """Limits of a search, which stops at the first that is reached; None means no limit.

    `evaluations` counts seeds and failed evaluations, too. Each counts by the `cost` of the settings, 1 by default, and
    a look by its share of the examples. `seconds` is the time of all sessions of a resumed search. The search stops
    when the loss is at most `target`, and after `patience` evaluations without a new best. In a Pareto search
    `patience` counts the evaluations since the last one that extended the front by more than a hundredth of its width.

    Raises:
        SearchError: a limit is not above zero, `target` is NaN, or there is no limit at all.

    Example:
        >>> Budget(evaluations=100, target=0.1).stopped_by(40, 3.0, best_loss=0.09, since_best=2)
        'target'
    """

    evaluations: int | None = 300  # the largest number at which the cheap baselines of a search are quick to repeat
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
        """Return the name of the limit that is reached, or None.

        `evaluations` is the number of evaluations so far, and `since_best` the number since the last improvement; looks
        count by their share of the examples.
        """
        if self.target is not None and best_loss is not None and best_loss <= self.target:
            return "target"
        if self.evaluations is not None and evaluations >= self.evaluations:
            return "evaluations"
        if self.seconds is not None and seconds >= self.seconds:
            return "seconds"
        if self.patience is not None and since_best >= self.patience:
            return "patience"
        return None
