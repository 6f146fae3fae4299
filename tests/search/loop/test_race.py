"""Racing: the looks, the told losses, the costs, and a resume that changes none of them."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import Budget, LocalPool, SearchError, SearchSettings, run_search
from search.loop.race import race

LOSS = st.none() | st.floats(-100, 100)


class Noisy:
    """A quadratic as the mean over examples, each of which shifts the minimum, so that a share misleads a little."""

    def __init__(self, dim: int, examples: int = 64) -> None:
        self.shifts = 0.3 * np.random.default_rng(5).normal(size=(examples, dim))
        self.looks: list[tuple[float, bool]] = []

    def __call__(self, vector: np.ndarray) -> float:
        return self.look(vector, 1.0, None)[0]

    def look(self, vector: np.ndarray, share: float, carry: np.ndarray | None) -> tuple[float, dict, np.ndarray]:
        self.looks.append((share, carry is not None))
        seen = 0 if carry is None else len(carry)
        rows = self.shifts[seen : math.ceil(share * len(self.shifts))]
        own = ((vector - 0.4 - rows) ** 2).sum(axis=1)
        losses = own if carry is None else np.concatenate([carry, own])
        return float(losses.mean()), {"seen": float(len(losses))}, losses


def play(count: int, rungs: tuple[float, ...], losses: dict[float, list[float | None]]) -> tuple[list, list]:
    """Run a race on the given losses for each share; return its looks and the told losses."""
    looks = race(count, rungs)
    look = next(looks)
    seen = []
    while True:
        seen.append(look)
        try:
            look = looks.send([losses[look[1]][row] for row in look[0]])
        except StopIteration as end:
            return seen, end.value


def test_the_worse_half_drops_out_and_keeps_its_order():
    losses = {0.25: [5.0, 1.0, 4.0, 2.0, 3.0], 0.5: [0, 1.5, 0, 1.0, 2.5], 1.0: [0, 10.0, 0, 20.0, 0]}
    looks, told = play(5, (0.25, 0.5), losses)
    assert looks == [([0, 1, 2, 3, 4], 0.25, 0.25), ([1, 3, 4], 0.5, 0.25), ([1, 3], 1.0, 0.5)]
    # At the second look row 4 was 1.0 behind the worst that stayed; at the first, rows 2 and 0 were 1 and 2 behind.
    assert told == [23.0, 10.0, 22.0, 20.0, 21.0]


@given(st.integers(1, 20).flatmap(lambda n: st.tuples(*[st.lists(LOSS, min_size=n, max_size=n)] * 3)))
def test_the_told_values_keep_the_ranks(three):
    count = len(three[0])
    losses = dict(zip((0.25, 0.5, 1.0), three, strict=True))
    looks, told = play(count, (0.25, 0.5), losses)
    for rows, share, _ in looks:
        if share == 1.0:
            assert [told[row] for row in rows] == [losses[1.0][row] for row in rows]
    # A candidate that drops out is told no less than any that went further, and the order of its last look is kept.
    for (rows, share, _), (stay, _, _) in zip(looks, looks[1:], strict=False):
        gone = [row for row in rows if row not in stay and told[row] is not None]
        best_gone = min((told[row] for row in gone), default=math.inf)
        assert best_gone >= max((told[row] for row in stay if told[row] is not None), default=-math.inf)
        by_look = sorted(gone, key=lambda row: losses[share][row])
        assert [told[row] for row in by_look] == sorted(told[row] for row in gone)
    assert all(told[row] is None for row in range(count) if losses[0.25][row] is None)


def settings(evaluations: float = 60, rungs: tuple[float, ...] = (0.25, 0.5)) -> SearchSettings:
    return SearchSettings(batch=8, seed=1, rungs=rungs, budget=Budget(evaluations=evaluations))


def test_a_race_in_a_search(tmp_path, seeds, timeless):
    objective = Noisy(6)
    path = tmp_path / "history.jsonl"
    found = run_search(objective, seeds(), settings(), history_path=path, key="net")
    lines = timeless(path)[1:]
    spent = sum(Fraction(line["cost"]) for line in lines)
    assert found.looks == len(lines) and spent <= 60 and found.evaluations == math.ceil(spent) == 60
    batch = [line for line in lines if line["batch"] == 3]
    assert [(line["share"], line["cost"]) for line in batch] == [(0.25, 0.25)] * 8 + [(0.5, 0.25)] * 4 + [
        (1.0, 0.5)
    ] * 2
    # Each look after the first continues the one before, and the loss of the last is that on all examples.
    assert all(carried == (share in (0.5, 1.0)) for share, carried in objective.looks[11:])
    assert (
        found.best_loss == objective(found.best_vector) == min(line["loss"] for line in lines if line["share"] == 1.0)
    )
    assert found.best_loss < found.best_seed_loss
    one = run_search(objective, seeds(), settings(rungs=()), history_path=tmp_path / "full.jsonl", key="net")
    assert one.evaluations == one.looks == 60


def test_breaks_in_a_race(tmp_path, seeds, timeless):
    """What a look carries to the next is lost when a search is broken off, and is computed again."""
    run_search(Noisy(6), seeds(), settings(), history_path=tmp_path / "whole.jsonl", key="net")
    for total in (5, 13, 15, 16, 17, 31, 60):
        run_search(Noisy(6), seeds(), settings(total), history_path=tmp_path / "broken.jsonl", key="net")
    assert timeless(tmp_path / "broken.jsonl") == timeless(tmp_path / "whole.jsonl")


def test_an_objective_without_looks_cannot_race(tmp_path, seeds, quadratic):
    with pytest.raises(SearchError) as caught:
        run_search(quadratic(6), seeds(), settings(), history_path=tmp_path / "history.jsonl", key="net")
    assert str(caught.value).splitlines()[1:] == [
        "it has no method look(vector, share, carry) for a share of its examples",
        "add one, or leave the rungs out",
    ]
    assert not (tmp_path / "history.jsonl").exists()


def test_failed_looks_drop_out(tmp_path, seeds, timeless):
    class Failing(Noisy):
        def look(self, vector, share, carry):
            if share == 0.5 and vector[0] > 0.4:
                raise ValueError("no such network")
            return super().look(vector, share, carry)

    path = tmp_path / "history.jsonl"
    found = run_search(None, seeds(), settings(), history_path=path, key="net", pool=LocalPool(Failing(6)))
    failed = {line["candidate"] for line in timeless(path)[1:] if line["error"]}
    assert failed and found.failures == len(failed)
    assert not failed & {line["candidate"] for line in timeless(path)[1:] if line["share"] == 1.0}
