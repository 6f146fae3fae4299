"""Evaluation of several candidates in one call of the objective's `many(vectors)`.

Every call gets the same number of vectors: missing ones are filled with copies of the last. Otherwise the last digits
of a candidate's loss would depend on how many candidates share its call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from .pool import Evaluation, Objective, Request, evaluate_one


def evaluate_many(objective: Objective, requests: Sequence[Request], at_once: int) -> list[Evaluation]:
    """Return one evaluation for each request, in their order.

    If the objective has `many`, full evaluations are made by it in groups of `at_once`; looks at a share are made one
    by one. If `many` fails for a group, each of its candidates is tried again in a group of its own, so that only the
    candidate that causes the failure fails.

    Example:
        >>> evaluate_many(lambda vector: float(vector.sum()), [Request(np.ones(3))], at_once=8)[0].loss
        3.0
    """
    if at_once == 1 or not has_many(objective):
        return [evaluate_one(objective, request) for request in requests]
    full = [request for request in requests if request.share is None]
    grouped: list[Evaluation] = []
    for begin in range(0, len(full), at_once):
        grouped += _evaluate_group(objective, full[begin : begin + at_once], at_once)
    full_evaluations = iter(grouped)
    return [
        next(full_evaluations) if request.share is None else evaluate_one(objective, request) for request in requests
    ]


def has_many(objective: Objective) -> bool:
    """Whether the objective has a method `many`."""
    return callable(getattr(objective, "many", None))


def _evaluate_group(objective: Objective, requests: Sequence[Request], at_once: int) -> list[Evaluation]:
    """Make 1 to `at_once` full evaluations in one call; `seconds` of each is its part of the time of the call."""
    vectors = [np.asarray(request.vector, dtype=np.float64) for request in requests]
    stacked = np.stack(vectors + vectors[-1:] * (at_once - len(requests)))  # (at_once, dim)
    returned: list[float | tuple[float, dict[str, float]]] = []

    def call(_: np.ndarray) -> float:
        returned.extend(objective.many(stacked))  # type: ignore[attr-defined]
        if len(returned) != at_once:
            raise ValueError(f"many() returned {len(returned)} results for {at_once} vectors")
        return 0.0

    # `evaluate_one` times the call and turns its exceptions into a failed evaluation.
    group = evaluate_one(call, requests[0])
    if group.error is None:
        seconds = group.seconds / len(requests)
        # Each returned value is checked like that of a call for a single candidate.
        checked = [
            evaluate_one(partial(_constant, value), request) for value, request in zip(returned, requests, strict=False)
        ]
        return [replace(one, seconds=seconds) for one in checked]
    if len(requests) == 1:
        return [group]
    return [_evaluate_group(objective, [request], at_once)[0] for request in requests]


def _constant(value: float | tuple[float, dict[str, float]], _: np.ndarray) -> float | tuple[float, dict[str, float]]:
    """An objective that returns `value` for every vector."""
    return value
