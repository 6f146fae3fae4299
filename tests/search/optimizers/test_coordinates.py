"""The quick parametrization and CMA ask for the very candidates of Nevergrad's own, to the last bit."""

from __future__ import annotations

import nevergrad as ng
import numpy as np
import pytest

from search import OPTIMIZERS, SearchError, make_optimizer
from search.optimizers import _nevergrad
from search.optimizers._coordinates import Coordinates

DIM, BATCH = 7, 6


def array_of_nevergrad(dim: int, seed: int, sigma: float) -> ng.p.Array:
    array = ng.p.Array(init=np.zeros(dim)).set_mutation(sigma=sigma)
    array.random_state = np.random.RandomState(seed)
    return array


def cma_of_nevergrad(parametrization: ng.p.Array, *, num_workers: int, config: ng.optimizers.ParametrizedCMA):
    return config(parametrization, num_workers=num_workers)


def asked(name: str, objectives: int) -> np.ndarray:
    """Candidates of ten batches; each batch is told backwards, and some losses are equal."""
    rng = np.random.default_rng(3)

    def feedback(vector: np.ndarray) -> float | tuple[float, ...]:
        losses = tuple(float(np.round(((vector - shift) ** 2).sum(), 2)) for shift in range(objectives))
        return losses[0] if objectives == 1 else losses

    seeds = [(row, feedback(row)) for row in rng.normal(size=(9, DIM))]
    optimizer = make_optimizer(name, DIM, batch=BATCH, seed=5, seeds=seeds, objectives=objectives)
    found = []
    for _ in range(10):
        batch = [optimizer.ask() for _ in range(BATCH)]
        for vector in reversed(batch):
            optimizer.tell(vector, feedback(vector))
        found += batch
    return np.array(found)


@pytest.mark.parametrize("objectives", [1, 2])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_candidates_are_those_of_nevergrad(monkeypatch, name: str, objectives: int):
    quick = asked(name, objectives)
    monkeypatch.setattr(_nevergrad, "Coordinates", array_of_nevergrad)
    monkeypatch.setattr(_nevergrad, "QuickCMA", cma_of_nevergrad)
    assert quick.tobytes() == asked(name, objectives).tobytes()


def test_a_copy_shares_no_state():
    parent = Coordinates(3, seed=0, sigma=0.5)
    parent.heritage["speed"] = 1
    parent.freeze()
    child = parent.spawn_child(new_value=np.ones(3))
    child.heritage["speed"] = 2
    child.set_standardized_data(np.ones(3), reference=parent)
    assert child.value.tolist() == [0.5, 0.5, 0.5]
    assert parent.value.tolist() == [0.0, 0.0, 0.0]
    assert (parent.heritage["speed"], child.generation, child.parents_uids) == (1, 1, [parent.uid])
    assert child.random_state is parent.random_state
    with pytest.raises(RuntimeError, match="Cannot modify frozen Parameter"):
        parent.value = np.ones(3)


def test_a_failed_update_of_cma_is_an_error(monkeypatch):
    """Nevergrad ignores what pycma raises, and would go on with the old mean."""
    optimizer = make_optimizer("CMA", DIM, batch=BATCH, seed=0)
    asked = [optimizer.ask() for _ in range(12)]

    def fail(*_: object) -> None:
        raise RuntimeError("no eigenvalues")

    monkeypatch.setattr("cma.CMAEvolutionStrategy.tell", fail)
    with pytest.raises(SearchError, match="CMA lost its state after 12 evaluations"):
        for vector in asked:
            optimizer.tell(vector, float(vector @ vector))


def test_a_cma_that_stops_is_an_error(monkeypatch):
    optimizer = make_optimizer("CMA", DIM, batch=BATCH, seed=0)
    monkeypatch.setattr("cma.CMAEvolutionStrategy.stop", lambda *_: {"conditioncov": 1e14})
    vector = optimizer.ask()
    with pytest.raises(SearchError, match="CMA lost its state after 1 evaluations"):
        optimizer.tell(vector, 1.0)
