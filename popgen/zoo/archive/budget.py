"""Chooses the codecs of all checkpoints of a zoo under a total of bytes, so that little accuracy is lost.

Every checkpoint begins in its smallest lossless form. Step by step that checkpoint takes a smaller form which loses the least for each byte that
it saves, until the total fits: the greedy way along the lower convex hull of each checkpoint's bytes and losses.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from popgen.errors import BadInput


@dataclass(frozen=True)
class Form:
    """One form of a checkpoint: its bytes, and the points that it loses; `key` says which form it is."""

    bytes: int
    loss: float
    key: tuple[str, int]


def hull(forms: Sequence[Form]) -> list[Form]:
    """The forms on the lower convex hull, from the largest to the smallest; a gain counts as a loss of 0.

    >>> [f.bytes for f in hull([Form(9, 0, ("a", 0)), Form(6, 3, ("b", 0)), Form(5, 1, ("c", 0)), Form(1, 9, ("d", 0))])]
    [9, 5, 1]
    """
    kept: list[Form] = []
    for form in sorted(forms, key=lambda one: (max(one.loss, 0), one.bytes)):
        if kept and form.bytes >= kept[-1].bytes:
            continue
        while len(kept) > 1 and _price(kept[-2], kept[-1]) >= _price(kept[-2], form):
            kept.pop()
        kept.append(form)
    return kept


def choose_forms(forms: Sequence[Sequence[Form]], most: int) -> list[Form]:
    """One form for each checkpoint, with a total of at most `most` bytes.

    Raises:
        BadInput: even the smallest forms take more.

    >>> [f.bytes for f in choose_forms([[Form(9, 0, ("a", 0)), Form(1, 9, ("b", 0))], [Form(9, 0, ("a", 0)), Form(2, 1, ("b", 0))]], 12)]
    [9, 2]
    """
    hulls = [hull(one) for one in forms]
    smallest = sum(one[-1].bytes for one in hulls)
    if smallest > most:
        raise BadInput(
            f"the networks do not fit into {most:,} bytes",
            f"their smallest forms take {smallest:,}",
            "Allow more with --max-bytes.",
        )
    at, total = [0] * len(hulls), sum(one[0].bytes for one in hulls)
    waiting = [(_price(*one[:2]), i) for i, one in enumerate(hulls) if len(one) > 1]
    heapq.heapify(waiting)
    while total > most:
        _, i = heapq.heappop(waiting)
        before, after = hulls[i][at[i]], hulls[i][at[i] + 1]
        at[i] += 1
        total -= before.bytes - after.bytes
        if at[i] + 1 < len(hulls[i]):
            heapq.heappush(waiting, (_price(after, hulls[i][at[i] + 1]), i))
    return [one[position] for one, position in zip(hulls, at, strict=True)]


def _price(larger: Form, smaller: Form) -> float:
    """Points lost for each byte saved."""
    return (max(smaller.loss, 0) - max(larger.loss, 0)) / max(larger.bytes - smaller.bytes, 1)
