"""Racing: cheap looks at a batch first, the full set for those that are left (successive halving).

Jamieson and Talwalkar, Non-stochastic best arm identification, AISTATS 2016. All candidates are looked at on the same
examples: their differences are then much more certain than their losses.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

Look = tuple[
    list[int], float, float
]  # rows of the batch, share of the examples, cost of each as a part of the full set
Losses = Sequence[float | None]


def race(count: int, rungs: Sequence[float]) -> Generator[Look, Losses, list[float | None]]:
    """Yield the looks at `count` candidates; send the losses of each look. Returns what each candidate is told.

    At each rung the worse half drops out. Those that get the full set are told their loss. One that dropped out is told
    as much above the worst of those that outlived it as it was behind the worst of them at its last look: the order of
    the batch is kept, and no loss of a few examples is taken for one of all. A failure is None.

    Example:
        >>> looks = race(4, (0.5,))
        >>> next(looks)
        ([0, 1, 2, 3], 0.5, 0.5)
        >>> looks.send([0.4, 0.1, 0.7, 0.2])
        ([1, 3], 1.0, 0.5)
    """
    left = list(range(count))
    dropped: list[list[tuple[int, float]]] = []  # of each rung: row, and how far behind the worst that stayed
    seen = 0.0
    for share in rungs:
        losses = yield left, share, share - seen
        seen = share
        ranked = sorted((loss, row) for row, loss in zip(left, losses, strict=True) if loss is not None)
        stay = ranked[: (len(left) + 1) // 2]
        if not stay:
            return [None] * count
        dropped.append([(row, loss - stay[-1][0]) for loss, row in ranked[len(stay) :]])
        left = sorted(row for _, row in stay)
    losses = yield left, 1.0, 1.0 - seen
    told: list[float | None] = [None] * count
    for row, loss in zip(left, losses, strict=True):
        told[row] = loss
    for rung in reversed(dropped):
        known = [loss for loss in told if loss is not None]
        if not known:
            break  # everyone that got further failed: nothing to stand behind
        worst = max(known)
        for row, behind in rung:
            told[row] = worst + behind
    return told
