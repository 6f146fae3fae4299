"""Optimizers on their own: determinism, use of the seeds, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from search import OPTIMIZERS, SearchError, UnknownOptimizer, make_optimizer
from search._nevergrad import _metamodel_state

BATCH = 6


def sphere(coordinates: np.ndarray) -> float:
    return float(((coordinates - 0.3) ** 2).sum())


def drawn_seeds(dim: int, count: int = 12) -> list[tuple[np.ndarray, float]]:
    return [(row, sphere(row)) for row in np.random.default_rng(1).normal(size=(count, dim))]


def trace(name: str, dim: int, batches: int, seed: int = 0, loss=sphere) -> np.ndarray:
    optimizer = make_optimizer(name, dim, batch=BATCH, seed=seed, seeds=drawn_seeds(dim))
    asked = []
    for _ in range(batches):
        batch = [optimizer.ask() for _ in range(BATCH)]
        for coordinates in batch:
            optimizer.tell(coordinates, loss(coordinates))
        asked += batch
    return np.array(asked)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_deterministic_from_its_seed_alone(name: str):
    np.random.seed(1)
    first = trace(name, 8, 10)
    np.random.seed(2)
    assert np.array_equal(first, trace(name, 8, 10))
    assert not np.array_equal(first, trace(name, 8, 10, seed=1))
    assert np.isfinite(first).all()


@pytest.mark.parametrize("name", ["DE", "TwoPointsDE", "PSO", "OnePlusOne"])
def test_seeds_are_used(name: str):
    """Good seeds far from the origin draw the search to them, which its own draws would never reach."""
    seeds = [(row + 100.0, sphere(row)) for row in np.random.default_rng(0).normal(size=(40, 5))]
    optimizer = make_optimizer(name, 5, batch=BATCH, seed=0, seeds=seeds)
    asked = []
    for _ in range(6):
        batch = [optimizer.ask() for _ in range(BATCH)]
        for coordinates in batch:
            optimizer.tell(coordinates, sphere(coordinates - 100.0))
        asked += batch
    assert sum((np.abs(coordinates - 100.0) < 20).all() for coordinates in asked) >= 3


@pytest.mark.parametrize("name", ["CMA", "DiagonalCMA"])
@pytest.mark.parametrize("loss", [lambda u: 0.0, lambda u: 1e300 * float(u @ u), lambda u: float(u[0])])
def test_cma_never_restarts(name: str, loss):
    """Flat, huge and unbounded losses are where pycma would stop and Nevergrad begin anew."""
    assert np.isfinite(trace(name, 3, 150, loss=loss)).all()


def test_cma_goes_on_at_the_optimum():
    last = trace("CMA", 2, 200)[-BATCH:]
    np.testing.assert_allclose(last, 0.3, atol=1e-6)


def test_ngopt_refuses_its_metamodel():
    with pytest.raises(UnknownOptimizer) as caught:
        make_optimizer("NGOpt", 2, batch=BATCH, seed=0)
    first, second, third = str(caught.value).splitlines()
    assert first == "NGOpt chooses MetaModel for 2 coordinates in batches of 6"
    assert second == _metamodel_state()
    assert "CMA" in third


def test_your_own(tmp_path, monkeypatch):
    (tmp_path / "still.py").write_text(
        "import numpy as np\n"
        "class Still:\n"
        "    def __init__(self, dim, batch, seed, seeds): self.best = seeds[0][0]\n"
        "    def ask(self): return self.best.copy()\n"
        "    def tell(self, coordinates, loss): pass\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    seeds = drawn_seeds(4)
    best = min(seeds, key=lambda pair: pair[1])[0]
    assert np.array_equal(make_optimizer("still:Still", 4, batch=2, seed=0, seeds=seeds).ask(), best)
    with pytest.raises(UnknownOptimizer, match=r"optimizer 'still:number' is a int\n.*dim, batch, seed, seeds"):
        make_optimizer("still:number", 4, batch=2, seed=0)
    with pytest.raises(UnknownOptimizer, match=r"optimizer 'still:absent' cannot be imported\nAttributeError"):
        make_optimizer("still:absent", 4, batch=2, seed=0)


def test_refusals():
    with pytest.raises(UnknownOptimizer, match=r"unknown optimizer 'CMAA'\nknown are CMA, .*\ndid you mean: CMA"):
        make_optimizer("CMAA", 4, batch=2, seed=0)
    with pytest.raises(UnknownOptimizer, match=r"CMA cannot search 1 coordinate\n"):
        make_optimizer("CMA", 1, batch=2, seed=0)
    optimizer = make_optimizer("DE", 4, batch=2, seed=0)
    first, second = optimizer.ask(), optimizer.ask()
    with pytest.raises(SearchError, match="not the next in ask order"):
        optimizer.tell(second, 1.0)
    assert not np.array_equal(first, second)
