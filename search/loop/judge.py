"""Judgement of an evaluation by the settings of the search: its loss, and its values in a Pareto search."""

from __future__ import annotations

import math
from dataclasses import replace

from ..pools.pool import Evaluation
from .settings import SearchSettings


def judge(evaluation: Evaluation, settings: SearchSettings) -> tuple[Evaluation, tuple[float, ...] | None]:
    """Return the evaluation with its loss, and the values of the objectives in a Pareto search, else None.

    The loss is the weighted sum of the objectives; in a Pareto search it is the first of them. The evaluation fails if
    an objective is missing from its metrics or is not finite.

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
