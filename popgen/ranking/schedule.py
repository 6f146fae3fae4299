"""How many examples the checkpoints see: a race in which the worse half drops out while the examples double, or one look.

With R halvings the first look is at n / 2^R of n examples. Every further look costs half of the first, so that the whole
race costs (R + 2) / 2^(R + 1) of showing all examples to all checkpoints.
"""

from __future__ import annotations

import math

_MOST_HALVINGS = 16


def race_rungs(share: float, examples: int, fewest: int) -> tuple[float, ...]:
    """The shares of the examples at which the worse half drops out, for a race that costs at most `share`.

    Args:
        share: of the cost of an exhaustive evaluation, above 0; at 1 nothing drops out.
        examples: number of examples.
        fewest: examples of the first look; where the race would begin with fewer, it begins here and costs more.

    >>> race_rungs(0.2, 1000, 8), race_rungs(1.0, 1000, 8), race_rungs(0.01, 64, 16)
    ((0.0625, 0.125, 0.25, 0.5), (), (0.25, 0.5))
    """
    halvings = next((r for r in range(_MOST_HALVINGS) if race_cost(r) <= share), _MOST_HALVINGS)
    halvings = min(halvings, max(0, math.floor(math.log2(examples / fewest))) if examples > fewest else 0)
    return tuple(2.0**-k for k in range(halvings, 0, -1))


def race_cost(halvings: int) -> float:
    """The cost of a race, as a share of an exhaustive evaluation.

    >>> race_cost(0), race_cost(4)
    (1.0, 0.1875)
    """
    return (halvings + 2) / 2 ** (halvings + 1)
