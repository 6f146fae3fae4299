"""Objectives and pools, and the evaluation of one candidate.

There are two pools: LocalPool evaluates in this process, RayPool on Ray actors. Both evaluate with single-threaded
math, because a sum taken by several threads differs in its last digits from the same sum taken by one.
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

# An objective is a picklable callable. It takes a vector (dim,) and returns the loss, lower is better, or a tuple of
# the loss and a dictionary of metrics, which are recorded. It may have three methods as well:
#   look(vector, share, carry) returns (loss, metrics, carry): the loss on the first `share` of its examples, above 0
#     and at most 1. These examples are the same for all candidates. `carry` is what the candidate's look at a smaller
#     share returned, so that its examples need no second pass; it is None if there was no such look, or if it was lost.
#   many(vectors) takes vectors (n, dim) and returns a list with what the call would return for each. It suits GPUs,
#     because these evaluate several candidates at once.
#   prepare() is called once in each process of a RayPool before its first evaluation. If it raises, that worker is left
#     out with a warning; if it raises in the first worker to come up, the pool is refused.
Objective = Callable[[np.ndarray], float | tuple[float, dict[str, float]]]


@dataclass(frozen=True)
class Request:
    """An evaluation that a pool is asked for.

    `vector` is the candidate, (dim,). With `share` the request is a look at that share of the examples. `carry` is what
    the candidate's last look returned, None if there was none.
    """

    vector: np.ndarray
    share: float | None = None
    carry: Any = None


@dataclass(frozen=True)
class Evaluation:
    """The result of one request.

    If the evaluation failed, `loss` is None and `error` says why. `seconds` is the time spent in the objective, `carry`
    is for the candidate's next look. `out_of_memory` marks a failure that may not recur when less runs at the same
    time.
    """

    loss: float | None
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None
    carry: Any = None
    out_of_memory: bool = False


class Pool(Protocol):
    """Evaluates requests with the objective that it holds."""

    @property
    def size(self) -> int:
        """Number of evaluations that can run at once at this moment."""

    def completed(self, requests: Iterable[Request], ahead: int = 1) -> Generator[tuple[int, Evaluation], None, None]:
        """Yield (index of the request, evaluation) in the order in which the evaluations finish.

        A request is taken from `requests` only when a worker has room for it. A worker has room for the call that it
        runs and for `ahead` more calls.
        """

    def close(self) -> None:
        """Release everything that the pool has started."""


def in_order(pool: Pool, requests: Sequence[Request]) -> Generator[Evaluation, None, None]:
    """Yield one evaluation for each request, in the order of the requests.

    Each is yielded as soon as it and all before it are finished.
    """
    waiting: dict[int, Evaluation] = {}
    yielded = 0
    with closing(pool.completed(requests)) as finished:
        for index, evaluation in finished:
            waiting[index] = evaluation
            while yielded in waiting:
                yield waiting.pop(yielded)
                yielded += 1


def evaluate(pool: Pool, vectors: Sequence[np.ndarray]) -> list[Evaluation]:
    """Evaluate each vector in full; return the evaluations in the order of the vectors."""
    return list(in_order(pool, [Request(vector) for vector in vectors]))


def evaluate_one(objective: Objective, request: Request) -> Evaluation:
    """Call the objective on a copy of the vector; an exception, NaN or infinity becomes a failed evaluation."""
    started = time.perf_counter()
    vector, carry = np.array(request.vector, dtype=np.float64), None
    try:
        with _one_torch_thread():
            if request.share is None:
                returned = objective(vector)
            else:
                *parts, carry = objective.look(vector, request.share, request.carry)  # type: ignore[attr-defined]
                returned = tuple(parts)
        value, named = returned if isinstance(returned, tuple) else (returned, {})
        loss = float(value)
        metrics = {str(name): float(metric) for name, metric in named.items()}
    except Exception as error:  # noqa: BLE001 - whatever a user's objective raises is recorded, and the search goes on
        seconds, reason = time.perf_counter() - started, f"{type(error).__name__}: {error}"
        return Evaluation(None, {}, seconds, reason, out_of_memory=_is_out_of_memory(error))
    seconds = time.perf_counter() - started
    if not math.isfinite(loss):
        return Evaluation(None, metrics, seconds, f"the loss is {loss}")
    return Evaluation(loss, metrics, seconds, carry=carry)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out. The error that torch raises for a GPU is not a MemoryError, so its name is compared."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Limit torch to one thread if the objective has imported it; restore the number of threads afterwards."""
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
