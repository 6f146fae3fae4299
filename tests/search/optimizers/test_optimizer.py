"""Optimizers without a search loop: determinism, use of seeds, several objectives, order of tells, refusals."""

from __future__ import annotations

import nevergrad as ng
import numpy as np
import pytest

from search import OPTIMIZERS, Population, SearchError, UnknownOptimizer, check_optimizer, make_optimizer, make_space
from search.optimizers._nevergrad import _metamodel_state
from search.optimizers.optimizer import default_sigma
from search.optimizers.pareto import hypervolume

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
    """Good seeds far from the origin attract the search; draws around the origin would never get there."""
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
@pytest.mark.parametrize("loss", [lambda _: 0.0, lambda u: 1e300 * float(u @ u), lambda u: float(u[0])])
def test_cma_never_restarts(name: str, loss):
    """With flat, huge and unbounded losses pycma would stop, and Nevergrad would start it anew."""
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


def test_refused_before_anything_is_evaluated():
    with pytest.raises(UnknownOptimizer, match="NGOpt chooses MetaModel for 2 coordinates"):
        check_optimizer("NGOpt", dim=2, batch=BATCH)
    with pytest.raises(SearchError, match="0 objectives\n.*\nset objectives to 1"):
        check_optimizer("CMA", objectives=0)
    check_optimizer("NGOpt", dim=2)  # cannot be refused yet, because the batch is not known
    for name in OPTIMIZERS:
        check_optimizer(name, dim=16, batch=12, objectives=3)


def test_ngopt_is_the_algorithm_that_it_chooses():
    assert np.array_equal(trace("NGOpt", 16, 4), trace("CMA", 16, 4))
    assert np.array_equal(trace("NGOpt", 2500, 1), trace("DE", 2500, 1))


@pytest.mark.parametrize("name", ["CMA", "DiagonalCMA"])
def test_one_coordinate_is_searched_by_tbpsa(name: str):
    check_optimizer(name, dim=1)
    found = trace(name, 1, 120)
    assert np.array_equal(found, trace("TBPSA", 1, 120)) and not np.array_equal(
        trace(name, 2, 120), trace("TBPSA", 2, 120)
    )
    np.testing.assert_allclose(found[-BATCH:], 0.3, atol=1e-2)


def test_step_by_dimension():
    """The defaults that were measured in 16 coordinates rest on a step of 0.3."""
    assert [default_sigma("CMA", dim) for dim in (2, 16, 32, 64, 512, 9999)] == [0.3, 0.3, 0.3, 0.2125, 0.1, 0.1]
    assert default_sigma("OnePlusOne", 16) == 0.2


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dim", [16, 64])
def test_beats_the_best_seed_and_its_own_random_start(name: str, dim: int):
    """The best loss is a tenth lower, on an ill-conditioned quadratic whose best seed is the mean of all."""
    draw = np.random.default_rng(dim)
    optimum, weights = draw.normal(size=dim), 1.0 / np.arange(1, dim + 1)
    rows = 0.3 * (optimum + 0.5 * draw.normal(size=dim) + draw.normal(size=(40, dim)))

    def loss(vector: np.ndarray) -> float:
        return float(weights @ (vector / 0.3 - optimum) ** 2)

    population = Population(np.vstack([rows.mean(axis=0), rows]), ["drawn"] * 41)
    losses = [loss(row) for row in population.vectors]
    space = make_space("auto", population, losses)
    assert space.name == "std"
    seeds = [(space.to_coordinates(row), one) for row, one in zip(population.vectors, losses, strict=True)]
    optimizer = make_optimizer(name, dim, batch=12, seed=0, seeds=seeds)
    best = np.inf
    for _ in range(30):
        asked = [optimizer.ask() for _ in range(12)]
        for coordinates in asked:
            value = loss(space.to_vector(coordinates))
            best = min(best, value)
            optimizer.tell(coordinates, value)
    assert best < 0.9 * min(losses)


def shuffled_trace(name: str, dim: int, ahead: int, order: int, objectives: int = 1) -> np.ndarray:
    """Return what is asked while `ahead` candidates are pending, told in a random order of the seed `order`."""
    goals = two_bowls(dim)
    seeds = [(row, goals(row)) for row, _ in drawn_seeds(dim)] if objectives > 1 else drawn_seeds(dim)
    loss = goals if objectives > 1 else sphere
    optimizer = make_optimizer(name, dim, batch=BATCH, seed=0, seeds=seeds, objectives=objectives)
    draw, asked, pending = np.random.default_rng(order), [], []
    for _ in range(240):
        pending.append(optimizer.ask())
        asked.append(pending[-1])
        if len(pending) > ahead:
            # At times many are told at once, so that a population of CMA ends without an ask since the last one.
            for _ in range(1 if draw.random() < 0.9 else ahead):
                coordinates = pending.pop(int(draw.integers(len(pending))))
                optimizer.tell(coordinates, loss(coordinates))
    return np.array(asked)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_told_in_any_order(name: str):
    """The candidates are deterministic even if asks run ahead of tells by more than two populations."""
    np.random.seed(1)
    first = shuffled_trace(name, 12, ahead=30, order=0)
    np.random.seed(2)
    assert np.array_equal(first, shuffled_trace(name, 12, ahead=30, order=0))
    assert not np.array_equal(first, shuffled_trace(name, 12, ahead=30, order=1)) or name == "RandomSearch"
    if name != "RandomSearch":
        assert np.mean([sphere(row) for row in first[-40:]]) < np.mean([sphere(row) for row in first[:40]])


@pytest.mark.parametrize("name", ["CMA", "DiagonalCMA"])
def test_cma_runs_ahead_in_many_coordinates(name: str):
    assert np.isfinite(shuffled_trace(name, 320, ahead=60, order=0)).all()


def test_equal_candidates_are_told_oldest_first():
    optimizer = make_optimizer("RandomSearch", 3, batch=2, seed=0)
    asked = optimizer.ask()
    assert np.array_equal(asked, np.zeros(3))
    optimizer.tell(-asked, 1.0)  # -0.0
    with pytest.raises(SearchError, match="not pending\n.*\ntell each loss once"):
        optimizer.tell(asked, 1.0)


def two_bowls(dim: int, count: int = 2):
    centres = np.random.default_rng(5).normal(size=(count, dim)) * 0.5

    def losses(coordinates: np.ndarray) -> tuple[float, ...]:
        # Each loss is in another unit, which must not matter.
        return tuple(float(10.0**k * ((coordinates - c) ** 2).sum()) for k, c in enumerate(centres))

    return losses


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_several_objectives(name: str):
    """The front covers more than that of the seeds, and than random search by Nevergrad at equal evaluations."""
    losses, dim = two_bowls(8), 8
    seeds = [(row, losses(row)) for row in np.random.default_rng(1).normal(size=(20, dim))]
    known = np.array([values for _, values in seeds])
    reference = known.max(axis=0)
    asked: list[list[np.ndarray]] = [[], []]
    for number, run in enumerate(asked):
        np.random.seed(number)
        optimizer = make_optimizer(name, dim, batch=BATCH, seed=0, seeds=seeds, objectives=2)
        for _ in range(30):
            batch = [optimizer.ask() for _ in range(BATCH)]
            for coordinates in batch:
                optimizer.tell(coordinates, losses(coordinates))
            run += batch
    assert np.array_equal(asked[0], asked[1])
    rival = ng.optimizers.RandomSearch(ng.p.Array(init=np.mean([row for row, _ in seeds], axis=0)), 180, BATCH)
    rival.parametrization.random_state = np.random.RandomState(0)
    drawn = [losses(rival.ask().value) for _ in range(180)]
    found = [losses(coordinates) for coordinates in asked[0]]
    reached = hypervolume(np.vstack([known, found]), reference)
    assert reached > 1.05 * hypervolume(known, reference)
    assert reached > hypervolume(np.vstack([known, drawn]), reference)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_several_objectives_in_any_order(name: str):
    first = shuffled_trace(name, 12, ahead=20, order=0, objectives=2)
    assert np.array_equal(first, shuffled_trace(name, 12, ahead=20, order=0, objectives=2))


def test_seeds_with_another_number_of_losses():
    seeds = [(np.zeros(4), (1.0, 2.0)), (np.ones(4), (1.0, 2.0, 3.0))]
    with pytest.raises(SearchError, match=r"a seed has \[2, 3\] losses\nthe search has 2 objectives"):
        make_optimizer("DE", 4, batch=2, seed=0, seeds=seeds, objectives=2)


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("[1.0, 2.0]", r"shape \(2,\)"),
        ("[1.0, float('nan'), 0.0, 0.0]", "NaN or infinity"),
        ("'far'", "a str"),
        ("None", r"shape \(\)"),
    ],
)
def test_wrong_coordinates_of_an_imported_optimizer(tmp_path, monkeypatch, answer: str, what: str):
    name = f"wrong_{len(answer)}"
    (tmp_path / f"{name}.py").write_text(
        f"class Wrong:\n    def ask(self): return {answer}\n    def tell(self, coordinates, loss): pass\n"
        "def make(*arguments): return Wrong()\n"
        "def deaf(*arguments): return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    optimizer = make_optimizer(f"{name}:make", 4, batch=2, seed=0)
    with pytest.raises(
        SearchError, match=rf"ask\(\) of optimizer '{name}:make' returned {what}\n.*4 finite .*\nreturn"
    ):
        optimizer.ask()
    with pytest.raises(UnknownOptimizer, match=r"returned a int without ask and tell\n"):
        make_optimizer(f"{name}:deaf", 4, batch=2, seed=0)


def test_an_imported_optimizer(tmp_path, monkeypatch):
    (tmp_path / "still.py").write_text(
        "import numpy as np\n"
        "class Still:\n"
        "    def __init__(self, dim, batch, seed, seeds): self.best = seeds[0][0]\n"
        "    def ask(self): return self.best.copy()\n"
        "    def tell(self, coordinates, loss): pass\n"
        "class listed(Still):\n"
        "    def ask(self): return self.best.tolist()\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    seeds = drawn_seeds(4)
    best = min(seeds, key=lambda pair: pair[1])[0]
    assert np.array_equal(make_optimizer("still:Still", 4, batch=2, seed=0, seeds=seeds).ask(), best)
    in_list = make_optimizer("still:listed", 4, batch=2, seed=0, seeds=seeds).ask()
    assert np.array_equal(in_list, best) and in_list.dtype == np.float64
    with pytest.raises(UnknownOptimizer, match=r"optimizer 'still:number' is a int\n.*dim, batch, seed, seeds"):
        make_optimizer("still:number", 4, batch=2, seed=0)
    with pytest.raises(UnknownOptimizer, match=r"optimizer 'still:absent' cannot be imported\nAttributeError"):
        make_optimizer("still:absent", 4, batch=2, seed=0)


def test_refusals():
    with pytest.raises(UnknownOptimizer, match=r"unknown optimizer 'CMAA'\nknown are CMA, .*\ndid you mean: CMA"):
        make_optimizer("CMAA", 4, batch=2, seed=0)
    optimizer = make_optimizer("DE", 4, batch=2, seed=0)
    first, second = optimizer.ask(), optimizer.ask()
    with pytest.raises(SearchError, match="not pending"):
        optimizer.tell(second + 1.0, 1.0)
    assert not np.array_equal(first, second)
