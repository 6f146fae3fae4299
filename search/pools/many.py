"""Several candidates in one call of the objective's `many(vectors)`, as a GPU wants it.

A group always has its full size: what is missing is filled with its last vector. Else a candidate's loss would depend, in
its last digits, on how many happened to be left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from .pool import Evaluation, Objective, Task, evaluate_one


def evaluate_many(objective: Objective, tasks: Sequence[Task], at_once: int) -> list[Evaluation]:
    """One evaluation a task, in their order: by `many` in groups of `at_once`, where the objective has it.

    Looks at a share are made one by one. Where `many` fails for a group, each of its candidates is tried by `many` in a
    group of its own, so that only the bad one fails.

    Example:
        >>> evaluate_many(lambda vector: float(vector.sum()), [Task(np.ones(3))], at_once=8)[0].loss
        3.0
    """
    if at_once == 1 or not has_many(objective):
        return [evaluate_one(objective, task) for task in tasks]
    full = [task for task in tasks if task.share is None]
    grouped: list[Evaluation] = []
    for begin in range(0, len(full), at_once):
        grouped += _many(objective, full[begin : begin + at_once], at_once)
    by_many = iter(grouped)
    return [next(by_many) if task.share is None else evaluate_one(objective, task) for task in tasks]


def has_many(objective: Objective) -> bool:
    """Whether the objective has `many`."""
    return callable(getattr(objective, "many", None))


def _many(objective: Objective, tasks: Sequence[Task], at_once: int) -> list[Evaluation]:
    """1 to `at_once` full evaluations in one call. `seconds` is each candidate's part of the call."""
    vectors = [np.asarray(task.vector, dtype=np.float64) for task in tasks]
    stacked = np.stack(vectors + vectors[-1:] * (at_once - len(tasks)))  # (at_once, dim)
    returned: list[float | tuple[float, dict[str, float]]] = []

    def call(_: np.ndarray) -> float:
        returned.extend(objective.many(stacked))  # type: ignore[attr-defined]
        if len(returned) != at_once:
            raise ValueError(f"many() returned {len(returned)} results for {at_once} vectors")
        return 0.0

    whole = evaluate_one(call, tasks[0])
    if whole.error is None:
        seconds = whole.seconds / len(tasks)
        read = [evaluate_one(partial(_known, worth), task) for worth, task in zip(returned, tasks, strict=False)]
        return [replace(one, seconds=seconds) for one in read]
    if len(tasks) == 1:
        return [whole]
    return [_many(objective, [task], at_once)[0] for task in tasks]


def _known(worth: float | tuple[float, dict[str, float]], _: np.ndarray) -> float | tuple[float, dict[str, float]]:
    return worth
