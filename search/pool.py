"""Where candidates are evaluated: the contract of a pool, and the pool that runs in this process.

`RayPool` in ray_pool.py has the same contract on Ray actors. Both evaluate with single-threaded math, because sums taken
by several threads differ in their last digits from sums taken by one.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

# A picklable callable of a vector; returns the loss (lower is better), or the loss and metrics for the record.
Objective = Callable[[np.ndarray], float | tuple[float, dict[str, float]]]


@dataclass(frozen=True)
class Evaluation:
    """One candidate's worth. `loss` is None, and `error` says why, where the evaluation failed."""

    loss: float | None
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None


class Pool(Protocol):
    """Evaluates vectors; holds the objective."""

    def stream(self, vectors: Sequence[np.ndarray]) -> Generator[Evaluation, None, None]:
        """Yield one evaluation a vector, in the order asked, each as soon as it and all before it are finished."""

    def evaluate(self, vectors: Sequence[np.ndarray]) -> list[Evaluation]:
        """All of `stream`."""

    def close(self) -> None:
        """Give everything back that the pool started."""


class LocalPool:
    """Evaluates in this process, one after another.

    Example:
        >>> LocalPool(lambda vector: float(vector @ vector)).evaluate([np.array([1.0, 2.0])])[0].loss
        5.0
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    def stream(self, vectors: Sequence[np.ndarray]) -> Generator[Evaluation, None, None]:
        """Yield one evaluation a vector, in the order asked."""
        controller = ThreadpoolController()
        for vector in vectors:
            with controller.limit(limits=1):
                evaluation = evaluate_one(self._objective, vector)
            yield evaluation

    def evaluate(self, vectors: Sequence[np.ndarray]) -> list[Evaluation]:
        """All of `stream`."""
        return list(self.stream(vectors))

    def close(self) -> None:
        """Nothing was started."""


def evaluate_one(objective: Objective, vector: np.ndarray) -> Evaluation:
    """Call the objective on its own copy of `vector`; an exception, NaN or infinity becomes a failed evaluation."""
    begun = time.perf_counter()
    try:
        with _one_torch_thread():
            returned = objective(np.array(vector, dtype=np.float64))
        worth, named = returned if isinstance(returned, tuple) else (returned, {})
        loss = float(worth)
        metrics = {str(name): float(value) for name, value in named.items()}
    except Exception as error:  # noqa: BLE001 - whatever a user's objective raises is recorded, and the search goes on
        return Evaluation(None, {}, time.perf_counter() - begun, f"{type(error).__name__}: {error}")
    seconds = time.perf_counter() - begun
    if not math.isfinite(loss):
        return Evaluation(None, metrics, seconds, f"the loss is {loss}")
    return Evaluation(loss, metrics, seconds)


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
