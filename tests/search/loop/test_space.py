"""Populations and the coordinates around them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import Population, SearchError, make_space


def in_subspace(dim: int, rank: int, count: int, rng: int = 0) -> Population:
    """Seeds in a random affine subspace of `rank` dimensions."""
    draw = np.random.default_rng(rng)
    return Population(draw.normal(size=(count, rank)) @ draw.normal(size=(rank, dim)) + 3.0, ["drawn"] * count)


def test_import_is_light():
    code = "import sys, search; print([m for m in ('ray', 'nevergrad', 'torch', 'popgen') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["identity", "std", "pca"]), st.integers(2, 12), st.integers(2, 14), st.integers(0, 99))
def test_coordinates_round_trip(name: str, dim: int, count: int, rng: int):
    draw = np.random.default_rng(rng)
    space = make_space(name, Population(draw.normal(size=(count, dim)), ["drawn"] * count), draw.normal(size=count))
    coordinates = draw.normal(size=space.dim)
    np.testing.assert_allclose(space.to_coordinates(space.to_vector(coordinates)), coordinates, atol=1e-8)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 5), st.integers(1, 7), st.integers(0, 99))
def test_population_file_round_trip(tmp_path_factory: pytest.TempPathFactory, count: int, dim: int, rng: int):
    path = tmp_path_factory.mktemp("population") / "seeds.safetensors"
    population = Population(np.random.default_rng(rng).normal(size=(count, dim)), [f"zoo/é{i}" for i in range(count)])
    population.save(path)
    loaded = Population.load(path)
    assert np.array_equal(loaded.vectors, population.vectors)
    assert loaded.origins == population.origins
    assert loaded.digest() == population.digest()


@pytest.mark.parametrize("name", ["std", "pca"])
def test_seeds_have_unit_spread(name: str):
    population = Population(np.random.default_rng(0).normal(size=(60, 5)) * [1, 2, 3, 4, 5], ["drawn"] * 60)
    space = make_space(name, population)
    coordinates = np.array([space.to_coordinates(row) for row in population.vectors])
    np.testing.assert_allclose(coordinates.std(axis=0, ddof=1), 1.0, rtol=1e-9)


def test_auto_takes_components_where_they_generalise():
    low_rank = make_space("auto", in_subspace(dim=200, rank=4, count=20))
    assert (low_rank.name, low_rank.dim) == ("pca", 4)
    assert low_rank.reason == "components of one half of the seeds explain 100% of the other half"
    everywhere = make_space("auto", Population(np.random.default_rng(0).normal(size=(20, 200)), ["drawn"] * 20))
    assert (everywhere.name, everywhere.dim) == ("std", 200)
    assert make_space("auto", in_subspace(200, 2, count=5)).name == "std"
    filled = make_space("auto", Population(np.random.default_rng(0).normal(size=(40, 16)), ["drawn"] * 40))
    assert filled.name == "std"
    assert filled.reason == "the seeds fill more than half of the coordinates: components would leave nothing out"


def test_pca_bounds_its_components():
    assert make_space("pca", in_subspace(dim=80, rank=60, count=70)).dim == 32
    assert make_space("pca", in_subspace(dim=80, rank=60, count=70), max_dim=9).dim == 9


def test_centre_is_the_weighted_better_half():
    population = Population(np.array([[0.0], [1.0], [2.0], [3.0], [50.0], [60.0]]), ["drawn"] * 6)
    losses = [3.0, 1.0, 2.0, 4.0, None, float("nan")]
    first, second = np.log(2.5) - np.log([1, 2])
    assert make_space("identity", population, losses).centre == pytest.approx((first + 2 * second) / (first + second))
    assert make_space("identity", population, [None] * 6).centre == pytest.approx(population.mean())


def test_a_coordinate_without_spread_may_move():
    population = Population(np.array([[0.0, 7.0], [2.0, 7.0]]), ["a", "b"])
    assert make_space("std", population).basis == pytest.approx([np.sqrt(2), 0.1])
    assert make_space("pca", Population(np.ones((3, 4)), ["a", "b", "c"])).reason.startswith(
        "the seeds are all the same"
    )


@pytest.mark.parametrize(
    ("vectors", "origins", "message"),
    [
        (np.zeros(3), ["a"], "a population needs vectors of shape (n, dim), got (3,)"),
        (np.zeros((2, 3)), ["a"], "a population of 2 vectors has 1 origins"),
        (np.array([[0.0], [np.nan]]), ["a", "b"], "seeds [1] of the population hold NaN or infinity"),
    ],
)
def test_bad_populations_are_refused(vectors: np.ndarray, origins: list[str], message: str):
    with pytest.raises(SearchError) as caught:
        Population(vectors, origins)
    assert str(caught.value).splitlines()[0] == message
    assert len(str(caught.value).splitlines()) == 3


def test_unknown_space_and_bad_file(tmp_path):
    with pytest.raises(SearchError, match=r"unknown space 'pcs'\n.*identity, std, pca, auto\ndid you mean: pca"):
        make_space("pcs", in_subspace(3, 2, 4))
    path = tmp_path / "seeds.safetensors"
    path.write_bytes(b"not tensors")
    with pytest.raises(SearchError, match="is not a saved population"):
        Population.load(path)
    with pytest.raises(SearchError, match="is not a saved population"):
        Population.load(tmp_path / "absent.safetensors")
