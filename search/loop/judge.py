"""What an evaluation is worth: one loss, or a value for each of several objectives; lower is better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ..pools.pool import Evaluation
from .settings import SearchSettings

Worth = float | tuple[float, ...]  # what an optimizer is told: a loss, or the values of several objectives


def judge(evaluation: Evaluation, settings: SearchSettings) -> tuple[Evaluation, tuple[float, ...] | None]:
    """The evaluation with its loss according to the settings, and the values of a Pareto search.

    The loss is the weighted sum of the objectives; in a Pareto search it is the first of them. An objective that was not
    returned, or is not finite, makes the evaluation a failed one.

    Example:
        >>> settings = SearchSettings(objectives=("loss", "size"), weights=(1.0, 0.5))
        >>> judge(Evaluation(2.0, {"size": 4.0}), settings)[0].loss
        4.0
    """
    if evaluation.loss is None or settings.objectives == ("loss",) and settings.weights is None:
        return evaluation, None
    named = {**evaluation.metrics, "loss": evaluation.loss}
    for name in settings.objectives:
        if name not in named:
            error = f"the objective returned no metric {name!r}, only: {', '.join(sorted(named))}"
            return replace(evaluation, loss=None, error=error), None
        if not math.isfinite(named[name]):
            return replace(evaluation, loss=None, error=f"the metric {name!r} is {named[name]}"), None
    values = tuple(named[name] for name in settings.objectives)
    if settings.pareto:
        return replace(evaluation, loss=values[0]), values
    weights = settings.weights or (1.0,)
    return replace(evaluation, loss=sum(w * v for w, v in zip(weights, values, strict=True))), None


def failure(worths: Sequence[Worth | None]) -> Worth:
    """What an optimizer is told of a failure: of each objective the worst so far plus a tenth of the range.

    Example:
        >>> failure([1.0, 3.0, None])
        3.3
        >>> failure([(1.0, 0.0), (3.0, 0.0)])[0]
        3.3
    """
    known = [worth for worth in worths if worth is not None]
    if not known:
        return 1.0
    if isinstance(known[0], tuple):
        columns: list[tuple[float, ...]] = list(zip(*known, strict=True))  # type: ignore[arg-type]
        return tuple(_beyond(column) for column in columns)
    return _beyond(known)  # type: ignore[arg-type]


def _beyond(values: Sequence[float]) -> float:
    worst = max(values)
    return worst + 0.1 * max(worst - min(values), abs(worst), 1e-6)
