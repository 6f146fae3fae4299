"""Several objectives: their weighted sum, and their Pareto front."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from search import OPTIMIZERS, Budget, SearchSettings, TooManyFailures, run_search

DIM = 8
HERE, THERE = np.full(DIM, -0.5), np.full(DIM, 0.5)  # their distance is the root of 8


def two_bowls(vector: np.ndarray) -> tuple[float, dict[str, float]]:
    """Two quadratics with minima at HERE and THERE.

    The front is the line between the minima, on which the square roots of both losses add up to their distance.
    """
    return float(((vector - HERE) ** 2).sum()), {"other": float(((vector - THERE) ** 2).sum()), "unused": 1.0}


PARETO = SearchSettings(batch=8, seed=2, objectives=("loss", "other"), budget=Budget(evaluations=200))
MULTI = [name for name in OPTIMIZERS if name != "RandomSearch"]


@pytest.mark.parametrize("optimizer", MULTI)
def test_the_front(optimizer, tmp_path, seeds, timeless):
    path = tmp_path / "history.jsonl"
    settings = replace(PARETO, optimizer=optimizer)
    found = run_search(two_bowls, seeds(DIM, 12), settings, history_path=path, key="net")
    values = np.array([point.values for point in found.front])
    assert len(values) >= 5
    assert all(np.array_equal(two_bowls(point.vector)[0], point.values[0]) for point in found.front)
    # No recorded point dominates a point of the front.
    recorded = np.array([line["values"] for line in timeless(path)[1:]])
    assert not any(((recorded <= v).all(1) & (recorded < v).any(1)).any() for v in values)
    near = np.sqrt(values).sum(axis=1)
    seed_near = np.sqrt(recorded[1:13]).sum(axis=1)
    assert near.min() < 1.15 * np.sqrt(8) and near.min() < 0.9 * seed_near.min()
    knee = next(point for point in found.front if point.index == found.best_index)
    assert (found.best_loss, found.best_metrics["other"]) == knee.values
    assert 0.15 < np.sqrt(knee.values[0] / 8) < 0.85
    for total in (7, 30, 200):
        run_search(
            two_bowls, seeds(DIM, 12), replace(settings, budget=Budget(evaluations=total)),
            history_path=tmp_path / "broken.jsonl", key="net",
        )  # fmt: skip
    assert timeless(tmp_path / "broken.jsonl") == timeless(path)


def test_weighted_sum(tmp_path, seeds, timeless):
    settings = replace(PARETO, weights=(1.0, 3.0))
    found = run_search(two_bowls, seeds(DIM, 12), settings, history_path=tmp_path / "history.jsonl", key="net")
    assert found.front == [] and found.best_loss == pytest.approx(6.0, abs=0.1)  # at a quarter of the way to HERE
    assert found.best_vector == pytest.approx(np.full(DIM, 0.25), abs=0.2)
    line = timeless(tmp_path / "history.jsonl")[1]
    assert line["values"] is None and line["loss"] == pytest.approx(
        3 * line["metrics"]["other"] + two_bowls(seeds(DIM, 12).mean())[0]
    )
    alone = replace(PARETO, objectives=("other",))
    found = run_search(two_bowls, seeds(DIM, 12), alone, history_path=tmp_path / "alone.jsonl", key="net")
    assert found.best_vector == pytest.approx(THERE, abs=0.2)


def test_patience_waits_for_the_front(tmp_path, seeds):
    settings = replace(PARETO, budget=Budget(evaluations=None, patience=40))
    seen = []
    found = run_search(
        two_bowls, seeds(DIM, 12), settings, history_path=tmp_path / "h.jsonl", key="net", on_evaluation=seen.append
    )
    assert found.stopped_by == "patience"
    assert 13 + 40 < found.evaluations < 4000
    assert seen[-1].front == len(found.front)


def test_failures_of_one_objective(tmp_path, seeds):
    def partly(vector: np.ndarray) -> tuple[float, dict[str, float]]:
        loss, metrics = two_bowls(vector)
        return loss, {"other": float("nan") if vector[0] > 0.3 else metrics["other"]}

    found = run_search(partly, seeds(DIM, 12), PARETO, history_path=tmp_path / "partly.jsonl", key="net")
    assert found.failures > 0 and all(point.vector[0] <= 0.3 for point in found.front)
    with pytest.raises(TooManyFailures, match="the objective returned no metric 'size', only: loss, other, unused\n"):
        run_search(
            two_bowls, seeds(DIM, 12), replace(PARETO, objectives=("loss", "size")),
            history_path=tmp_path / "none.jsonl", key="net",
        )  # fmt: skip
