"""Ray pools for the tests: closed by a `with` block, and used until all of their workers are up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from search import RayPool, evaluate


@contextmanager
def opened(*arguments: Any, **named: Any) -> Iterator[RayPool]:
    pool = RayPool(*arguments, **named)
    try:
        yield pool
    finally:
        pool.close()


def numbers(*values: float) -> list[np.ndarray]:
    return [np.array([value]) for value in values]


def all_up(pool: RayPool, size: int) -> None:
    """Use the pool until `size` workers are up: a pool only brings up workers while it is in use."""
    until = time.monotonic() + 30.0
    while pool.size < size and time.monotonic() < until:
        evaluate(pool, numbers(0.0))
        time.sleep(0.05)
    assert pool.size == size
