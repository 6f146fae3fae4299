"""popgen/fitness/information.py: the gain is the difference of two mutual informations, and its error that of a bootstrap."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from popgen.fitness.information import information_gain, is_gain, paired_gains
from popgen.generator.strength import mutual_information


def networks(n: int, classes: int = 10) -> tuple[Tensor, Tensor]:
    """Logits (n, classes) of two networks that mostly agree, the second of which is more certain."""
    generator = torch.Generator().manual_seed(n)
    labels = torch.randint(classes, (n,), generator=generator)
    before = torch.randn(n, classes, generator=generator)
    before[torch.arange(n), labels] += 2
    return before, 1.3 * before + 0.5 * torch.randn(n, classes, generator=generator)


def test_the_gain_is_the_difference_of_the_mutual_informations() -> None:
    before, after = networks(200)
    gain, _ = information_gain(before, after)
    assert gain == pytest.approx(mutual_information(after) - mutual_information(before), abs=1e-5)
    assert information_gain(after, before)[0] == pytest.approx(-gain, abs=1e-12)


@pytest.mark.parametrize("n", [50, 1000])
def test_the_error_is_that_of_a_bootstrap_over_images(n: int) -> None:
    before, after = networks(n)
    rows = torch.randint(n, (400, n), generator=torch.Generator().manual_seed(0))
    drawn = torch.tensor([mutual_information(after[i]) - mutual_information(before[i]) for i in rows])
    assert information_gain(before, after)[1] == pytest.approx(float(drawn.std()), rel=0.15)


def test_pairing_makes_the_error_smaller_than_that_of_networks_on_different_images() -> None:
    before, after = networks(500)
    assert information_gain(before, after)[1] < 0.7 * information_gain(before, after.roll(1, 0))[1]


def test_a_network_gains_nothing_over_itself() -> None:
    before, _ = networks(20)
    assert information_gain(before, before) == (0, 0)
    assert not is_gain(*information_gain(before, before))


def test_a_class_that_no_network_predicts_is_no_trouble() -> None:
    logits = torch.tensor([[200.0, 0.0, -2000.0], [0.0, 200.0, -2000.0]])
    gain, error = information_gain(torch.zeros(2, 3), logits)
    assert gain == pytest.approx(math.log(2)) and error == pytest.approx(0, abs=1e-9)


def test_one_image_says_nothing() -> None:
    gain, error = information_gain(torch.zeros(1, 3), torch.eye(3)[:1])
    assert gain == 0 and error == math.inf and not is_gain(gain, error)


def test_outputs_that_are_not_numbers_are_no_gain() -> None:
    broken = torch.full((4, 3), math.nan)
    assert not is_gain(*information_gain(torch.eye(3)[[0, 1, 2, 0]], broken))
    assert not is_gain(*information_gain(broken, torch.eye(3)[[0, 1, 2, 0]]))


def test_less_information_is_no_gain() -> None:
    before, after = networks(500)
    assert is_gain(*information_gain(before, after))
    assert not is_gain(*information_gain(after, before))


@pytest.mark.parametrize(("n", "quantile"), [(5, 2.869), (10, 2.320), (30, 2.090), (1000, 2.003)])
def test_few_images_widen_the_error_as_students_distribution_does(n: int, quantile: float) -> None:
    """The quantiles of Student's t with n - 1 degrees of freedom at the normal distribution's probability below 2."""
    before, after = networks(n)
    plain = float(paired_gains(before, after).std()) / math.sqrt(n)
    assert 2 * information_gain(before, after)[1] / plain == pytest.approx(quantile, rel=0.1)
