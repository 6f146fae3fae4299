"""Sequential halving over examples: the worse half of the checkpoints drops out whenever the number of examples doubles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from popgen.ranking.seen import Score
from popgen.ranking.stream import Stream
from search.loop.race import race


@dataclass(frozen=True)
class Place:
    """A checkpoint by its index, the score of its last look, and the number of examples of that look."""

    index: int
    score: Score
    examples: int


def run_race(stream: Stream, rungs: Sequence[float]) -> list[Place]:
    """Race all checkpoints of a stream; returns their places, the best first, without those that could not be scored.

    Who went further stands before who dropped out earlier; within a look the score decides.

    Args:
        rungs: growing shares of the examples, below 1, at which half of the checkpoints drop out.
    """
    places: dict[int, Place] = {}
    looks = race(len(stream.records), rungs)
    look = next(looks)
    while True:
        indices, share, _ = look
        count = math.ceil(share * len(stream.examples))
        scores = stream.look(indices, count)
        for i, score in zip(indices, scores, strict=True):
            if score is None:
                places.pop(i, None)
            else:
                places[i] = Place(i, score, count)
        losses = [None if score is None or not math.isfinite(score.key) else -score.key for score in scores]
        try:
            look = looks.send(losses)
        except StopIteration:
            break
    return sorted(places.values(), key=lambda place: (-place.examples, -place.score.key, place.index))


def planned_passes(checkpoints: int, examples: int, rungs: Sequence[float]) -> int:
    """The number of examples that a race shows to checkpoints, all together.

    >>> planned_passes(4, 100, ()), planned_passes(4, 100, (0.5,))
    (400, 300)
    """
    passes, seen, racing = 0, 0, checkpoints
    for share in (*rungs, 1.0):
        count = math.ceil(share * examples)
        passes, seen, racing = passes + racing * (count - seen), count, (racing + 1) // 2
    return passes
