"""Racing by successive halving: a batch is evaluated on a share of the examples, and only the better half goes on.

Jamieson and Talwalkar, Non-stochastic best arm identification and hyperparameter optimization, AISTATS 2016. All
candidates are evaluated on the same examples: the differences between their losses are then much more certain than the
losses themselves.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

# Rows of the batch, share of the examples, and cost for each of the rows, in full evaluations.
Look = tuple[list[int], float, float]
Losses = Sequence[float | None]  # one for each row of the look, None for a failure


def race(count: int, rungs: Sequence[float]) -> Generator[Look, Losses, list[float | None]]:
    """Yield the looks at `count` candidates; send the losses of each look. Returns the loss to tell for each candidate.

    At each rung the worse half of the candidates drops out. For a candidate that reached the full set, its loss is
    told. For one that dropped out, the worst told loss of the candidates that went further is taken, plus the distance
    to the worst of those at its last look. So the order of the batch is kept, and the loss on a few examples is never
    taken for a loss on all of them. None is told for a failure.

    Args:
        rungs: growing shares of the examples, above 0 and below 1.

    Example:
        >>> looks = race(4, (0.5,))
        >>> next(looks)
        ([0, 1, 2, 3], 0.5, 0.5)
        >>> looks.send([0.4, 0.1, 0.7, 0.2])
        ([1, 3], 1.0, 0.5)
    """
    racing = list(range(count))  # rows that have not dropped out
    # For each rung the rows that dropped out, each with the distance of its loss to the worst that stayed.
    dropped: list[list[tuple[int, float]]] = []
    seen = 0.0
    for share in rungs:
        losses = yield racing, share, share - seen
        seen = share
        ranked = sorted((loss, row) for row, loss in zip(racing, losses, strict=True) if loss is not None)
        stay = ranked[: (len(racing) + 1) // 2]
        if not stay:
            return [None] * count
        dropped.append([(row, loss - stay[-1][0]) for loss, row in ranked[len(stay) :]])
        racing = sorted(row for _, row in stay)
    losses = yield racing, 1.0, 1.0 - seen
    told: list[float | None] = [None] * count
    for row, loss in zip(racing, losses, strict=True):
        told[row] = loss
    for rung in reversed(dropped):
        known = [loss for loss in told if loss is not None]
        if not known:
            break  # all that went further failed, so there is no loss to measure from
        worst = max(known)
        for row, distance in rung:
            told[row] = worst + distance
    return told
