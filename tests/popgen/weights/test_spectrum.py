"""The spectral signal-to-noise ratio against random matrix theory and against matrices with known singular values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from popgen.weights.spectrum import Formula, marchenko_pastur_edge, marchenko_pastur_median, signal_to_noise

SHAPES = [(256, 256), (256, 1024), (64, 576)]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_values(values: list[float], m: int, n: int) -> Tensor:
    """A matrix m x n with these singular values and random singular vectors."""
    left, right = (torch.linalg.qr(noise(side, len(values), seed=side))[0] for side in (m, n))
    return left * torch.tensor(values) @ right.T


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pure_noise_has_nearly_nothing_above_the_edge(shape: tuple[int, int]) -> None:
    """The largest singular value fluctuates about the edge, so one or two values may be above it by chance."""
    for seed in range(5):
        found = signal_to_noise(0.02 * noise(*shape, seed=seed))
        assert found is not None
        assert found.rank <= 2
        assert found.edge == pytest.approx(marchenko_pastur_edge(*shape, deviation=0.02), rel=0.03)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_three_signals_in_noise_are_three(shape: tuple[int, int]) -> None:
    """A signal of strength x in noise of deviation d has the singular value sqrt((x^2 + m d^2) (x^2 + n d^2)) / x."""
    m, n = shape
    edge = marchenko_pastur_edge(m, n)
    strengths = [4 * edge, 3 * edge, 2 * edge]
    found = signal_to_noise(noise(m, n, seed=1) + with_values(strengths, m, n))
    assert found is not None
    seen = [math.sqrt((x**2 + m) * (x**2 + n)) / x for x in strengths]
    assert found.rank == 3
    assert found.largest == pytest.approx(seen[0], rel=0.02)
    rest = noise(m, n, seed=1)
    assert found.snr == pytest.approx(sum(seen) / float(torch.linalg.svdvals(rest).sum()), rel=0.06)


@pytest.mark.parametrize(("beta", "coefficient"), [(1.0, 2.8582), (0.5, 2.1711), (0.1, 1.6089)])
def test_the_median_is_that_of_gavish_and_donoho(beta: float, coefficient: float) -> None:
    """Their table of the optimal threshold in units of the median, which is lambda(beta) / sqrt(median of the law)."""
    known_noise = math.sqrt(2 * (beta + 1) + 8 * beta / (beta + 1 + math.sqrt(beta**2 + 14 * beta + 1)))
    m, n = round(1000 * beta), 1000
    assert known_noise * math.sqrt(n) / marchenko_pastur_median(m, n) == pytest.approx(coefficient, abs=1e-3)


def test_the_median_is_that_of_noise() -> None:
    median = float(torch.linalg.svdvals(noise(300, 900)).median())
    assert median == pytest.approx(marchenko_pastur_median(300, 900), rel=0.01)
    assert marchenko_pastur_median(900, 300) == marchenko_pastur_median(300, 900)


@pytest.mark.parametrize("formula", ["calibrated", "spectrum"])
def test_a_transposed_matrix_has_the_same_ratio(formula: Formula) -> None:
    matrix = noise(48, 200) + with_values([80.0, 60.0], 48, 200)
    one, other = signal_to_noise(matrix, formula), signal_to_noise(matrix.T, formula)
    assert one is not None and other is not None
    assert (one.rank, one.edge, one.snr) == (other.rank, *map(pytest.approx, (other.edge, other.snr)))


def test_the_scale_does_not_count_but_for_the_paper() -> None:
    matrix = noise(48, 200) + with_values([80.0, 60.0], 48, 200)
    for formula, power in (("calibrated", 0), ("spectrum", -1)):
        one, other = signal_to_noise(matrix, formula), signal_to_noise(1000 * matrix, formula)  # type: ignore[arg-type]
        assert one is not None and other is not None
        assert other.rank == one.rank
        assert other.edge == pytest.approx(1000 * one.edge, rel=1e-4)
        assert other.snr == pytest.approx(1000**power * one.snr, rel=1e-4)


def test_the_paper_s_formula_by_hand() -> None:
    """Values 1 to 9: quartiles 3 and 7, so the edge is 4 / 1.349 x 2 = 5.93: 9 + 8 + 7 + 6 by 5 + 4 + 3 + 2 + 1, by 9."""
    found = signal_to_noise(torch.diag(torch.arange(1.0, 10.0)), "spectrum")
    assert found is not None
    assert (found.rank, found.edge) == (4, pytest.approx(4 / 1.349 * 2, rel=1e-5))
    assert found.snr == pytest.approx(30 / 15 / 9, rel=1e-5)


def test_the_paper_s_edge_lies_within_noise() -> None:
    """This is why it is not the default."""
    found = signal_to_noise(noise(256, 256), "spectrum")
    assert found is not None
    assert found.rank > 60


@pytest.mark.parametrize(
    ("matrix", "formula"),
    [
        (torch.zeros(8, 8), "calibrated"),
        (torch.zeros(8, 8), "spectrum"),
        (with_values([3.0, 2.0, 1.0], 16, 40), "calibrated"),  # a product of low-rank factors
        (torch.eye(12), "spectrum"),
    ],
    ids=["zeros", "zeros, spectrum", "low rank", "identity, spectrum"],
)
def test_without_noise_there_is_no_ratio(matrix: Tensor, formula: Formula) -> None:
    assert signal_to_noise(matrix, formula) is None


def test_an_orthogonal_matrix_has_no_signal() -> None:
    found = signal_to_noise(torch.linalg.qr(noise(32, 32))[0])
    assert found is not None
    assert (found.rank, found.snr) == (0, 0.0)
