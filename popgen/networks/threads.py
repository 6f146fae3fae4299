"""A context manager that sets torch's number of threads for a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_SMALL = 100_000  # networks of fewer weights are slower on several threads than on one, and on a busy machine many times slower


def for_networks(weights: int) -> int | None:
    """The number of threads for networks of so many weights: 1 for small ones; None leaves the choice to torch.

    >>> for_networks(3_818), for_networks(11_000_000)
    (1, None)
    """
    return 1 if weights < _SMALL else None


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Let torch use `count` threads inside the block, and restore the number after it; None changes nothing.

    The last bits of a sum depend on the number of threads, so repeatable computations run on a fixed number.

    >>> before = torch.get_num_threads()
    >>> with threads(1):
    ...     torch.get_num_threads()
    1
    >>> torch.get_num_threads() == before
    True
    """
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before)
