"""Feedback: what an optimizer is told about a candidate, and the feedback that stands in for a failed evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# The loss, or in a Pareto search a tuple with the value of each objective. Lower is better, all numbers are finite.
Feedback = float | tuple[float, ...]
Seeds = Sequence[tuple[np.ndarray, Feedback]]  # coordinates (dim,) and feedback of the evaluated seeds, best first


def failure_feedback(earlier: Sequence[Feedback | None]) -> Feedback:
    """Return the feedback for a failed candidate: for each objective the worst value so far plus a tenth of the range.

    `earlier` has the feedback of all candidates so far, None for those that failed. The feedback is 1.0 if none
    succeeded.

    Example:
        >>> failure_feedback([1.0, 3.0, None])
        3.3
        >>> failure_feedback([(1.0, 0.0), (3.0, 0.0)])[0]
        3.3
    """
    known = [feedback for feedback in earlier if feedback is not None]
    if not known:
        return 1.0
    if isinstance(known[0], tuple):
        columns: list[tuple[float, ...]] = list(zip(*known, strict=True))  # type: ignore[arg-type]
        return tuple(_worse_than_all(column) for column in columns)
    return _worse_than_all(known)  # type: ignore[arg-type]


def _worse_than_all(values: Sequence[float]) -> float:
    worst = max(values)
    return worst + 0.1 * max(worst - min(values), abs(worst), 1e-6)
