"""A warm start: the best of one search among the seeds of another."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from search import Budget, Population, SearchError, SearchSettings, best_of, run_search

SETTINGS = SearchSettings(batch=6, seed=3, budget=Budget(evaluations=60))


@pytest.mark.parametrize("space", ["identity", "std", "pca"])
def test_the_best_are_given_back(space, tmp_path, seeds, quadratic):
    path, objective = tmp_path / "history.jsonl", quadratic(6)
    found = run_search(objective, seeds(), replace(SETTINGS, space=space), history_path=path, key="net")
    best = best_of(path, "net", seeds(), 5)
    losses = sorted(json.loads(line)["loss"] for line in path.read_text().splitlines()[1:])
    assert [objective(vector) for vector in best.vectors] == losses[:5]
    assert np.array_equal(best.vectors[0], found.best_vector) and best.origins[0] == f"best:{found.best_index}"
    other = replace(SETTINGS, optimizer="DE", batch=5)
    joined = Population(np.vstack([seeds(rng=7).vectors, best.vectors]), ["new"] * 10 + best.origins)
    again = run_search(objective, joined, other, history_path=tmp_path / "again.jsonl", key="net")
    assert again.best_seed_loss <= found.best_loss


def test_the_best_of_an_unfinished_search(tmp_path, seeds, quadratic):
    path = tmp_path / "history.jsonl"
    run_search(quadratic(6), seeds(), replace(SETTINGS, budget=Budget(evaluations=4)), history_path=path, key="net")
    assert len(best_of(path, "net", seeds(), 9)) == 4


def test_the_front_comes_first(tmp_path, seeds, quadratic):
    def two(vector):
        return quadratic(6)(vector), {"other": float((vector**2).sum())}

    settings = replace(SETTINGS, objectives=("loss", "other"))
    found = run_search(two, seeds(), settings, history_path=tmp_path / "h.jsonl", key="net")
    best = best_of(tmp_path / "h.jsonl", "net", seeds(), len(found.front))
    assert sorted(best.origins) == sorted(f"best:{point.index}" for point in found.front)


@pytest.mark.usefixtures("quadratic")
def test_refusals(tmp_path, seeds):
    path = tmp_path / "history.jsonl"

    def refused(key, population):
        with pytest.raises(SearchError) as caught:
            best_of(path, key, population, 3)
        lines = str(caught.value).splitlines()
        assert len(lines) == 3
        return lines

    assert refused("net", seeds())[0] == f"{path} has no search 'net'"
    assert not path.exists()
    run_search(
        lambda _: float("nan"), seeds(), replace(SETTINGS, budget=Budget(evaluations=5)), history_path=path, key="net"
    )
    assert refused("two", seeds())[0] == f"{path} has no search 'two'"
    assert refused("net", seeds(rng=1))[0] == f"{path}, search 'net', was started from another population"
    assert refused("net", seeds())[0] == f"{path}, search 'net', has no evaluation that succeeded"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coordinates": [1.0]}, "1 coordinates in a space of dimension 6"),
        ({"coordinates": None, "candidate": 99}, "there are 11 seeds, and it is of seed 99"),
        ({"values": [1.0, 2.0]}, "others have 0 objectives"),
        ({"coordinates": {"a": 1}}, "coordinates: Input should be a valid list"),
        ({"loss": "low"}, "loss: Input should be a valid number"),
    ],
)
def test_damaged_records_are_refused(change, message, tmp_path, seeds, quadratic):
    path = tmp_path / "history.jsonl"
    run_search(quadratic(6), seeds(), replace(SETTINGS, budget=Budget(evaluations=24)), history_path=path, key="net")
    lines = path.read_text().splitlines()
    last = {**json.loads(lines[-1]), "loss": -1e9, **change}
    path.write_text("\n".join([*lines[:-1], json.dumps(last)]) + "\n")
    with pytest.raises(SearchError) as caught:
        best_of(path, "net", seeds(), 3)
    assert message in str(caught.value)
