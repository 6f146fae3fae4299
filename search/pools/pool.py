"""Where candidates are evaluated: what an objective and a pool are, and how one candidate is evaluated.

The pools are LocalPool, in this process, and RayPool, on Ray actors. Both evaluate with single-threaded math, because sums
taken by several threads differ in their last digits from sums taken by one.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

# A picklable callable of a vector; returns the loss (lower is better), or the loss and metrics for the record.
#
# It may have two methods beside:
#   look(vector, share, carry) -> (loss, metrics, carry): the loss on the first `share` (above 0, at most 1) of its
#     examples, which are the same for all candidates. `carry` is what the candidate's look at a smaller share handed on,
#     so that its examples need no second pass; None where there was none, or where it is lost.
#   many(vectors) -> a list of what the call returns, for vectors (n, dim): several candidates at once, as a GPU wants it.
Objective = Callable[[np.ndarray], float | tuple[float, dict[str, float]]]


@dataclass(frozen=True)
class Task:
    """One evaluation to be made; with `share`, a look at that share of the examples."""

    vector: np.ndarray
    share: float | None = None
    carry: Any = None


@dataclass(frozen=True)
class Evaluation:
    """One candidate's worth. `loss` is None, and `error` says why, where the evaluation failed.

    `seconds` is the time in the objective. `out_of_memory` marks a failure that may not come again when less is running.
    """

    loss: float | None
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None
    carry: Any = None
    out_of_memory: bool = False


class Pool(Protocol):
    """Evaluates tasks; holds the objective."""

    @property
    def size(self) -> int:
        """How many evaluations can run at once, now."""

    def completed(self, tasks: Iterable[Task], ahead: int = 1) -> Generator[tuple[int, Evaluation], None, None]:
        """Yield (number of the task, evaluation) in the order in which they are finished.

        A task is taken from `tasks` only when a worker can have it; `ahead` is how many wait at a worker behind its
        running one.
        """

    def close(self) -> None:
        """Give everything back that the pool started."""


def in_order(pool: Pool, tasks: Sequence[Task]) -> Generator[Evaluation, None, None]:
    """Yield one evaluation a task, in the order of the tasks, each as soon as it and all before it are finished."""
    waiting: dict[int, Evaluation] = {}
    given = 0
    with closing(pool.completed(tasks)) as finished:
        for number, evaluation in finished:
            waiting[number] = evaluation
            while given in waiting:
                yield waiting.pop(given)
                given += 1


def evaluate(pool: Pool, vectors: Sequence[np.ndarray]) -> list[Evaluation]:
    """The full evaluation of each vector."""
    return list(in_order(pool, [Task(vector) for vector in vectors]))


def evaluate_one(objective: Objective, task: Task) -> Evaluation:
    """Call the objective on its own copy of the vector; an exception, NaN or infinity becomes a failed evaluation."""
    begun = time.perf_counter()
    vector, carry = np.array(task.vector, dtype=np.float64), None
    try:
        with _one_torch_thread():
            if task.share is None:
                returned = objective(vector)
            else:
                *parts, carry = objective.look(vector, task.share, task.carry)  # type: ignore[attr-defined]
                returned = tuple(parts)
        worth, named = returned if isinstance(returned, tuple) else (returned, {})
        loss = float(worth)
        metrics = {str(name): float(value) for name, value in named.items()}
    except Exception as error:  # noqa: BLE001 - whatever a user's objective raises is recorded, and the search goes on
        seconds, said = time.perf_counter() - begun, f"{type(error).__name__}: {error}"
        return Evaluation(None, {}, seconds, said, out_of_memory=_is_out_of_memory(error))
    seconds = time.perf_counter() - begun
    if not math.isfinite(loss):
        return Evaluation(None, metrics, seconds, f"the loss is {loss}")
    return Evaluation(loss, metrics, seconds, carry=carry)


def _is_out_of_memory(error: Exception) -> bool:
    """Python's own, and torch's on a GPU, which is not one of Python's."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """One thread for torch, where the objective has loaded it."""
    torch = sys.modules.get("torch")
    threads = 1 if torch is None else torch.get_num_threads()
    if torch is None or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
