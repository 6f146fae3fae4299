"""The optimism of the best of several candidates, beside what simulations and closed forms know."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from popgen.archs import ArchSpec, build
from popgen.baselines.optimism import Choice, fresh_optimism, optimism
from popgen.baselines.row import Row, disagreements
from popgen.data import load_data
from popgen.fitness import make_fitness
from popgen.networks.forward import network_outputs


def simulated(shares: np.ndarray, images: int, draws: int) -> tuple[float, float]:
    """The mean optimism of the best of independent candidates with these true accuracies, and the mean estimate."""
    rng, true, found = np.random.default_rng(0), [], []
    for _ in range(draws):
        right = (rng.random((len(shares), images)) < shares[:, None]).astype(np.uint8)
        best = int((1 - right).mean(1).argmin())
        true.append(right[best].mean() - shares[best])
        found.append(optimism(1.0 - right, right).value)
    return float(np.mean(true)), float(np.mean(found))


def test_it_is_right_where_all_candidates_are_equally_good() -> None:
    true, found = simulated(np.full(20, 0.9), 300, 40)
    assert found == pytest.approx(true, rel=0.15) and true > 0.02


def test_it_is_at_most_a_little_too_high_where_they_differ() -> None:
    true, found = simulated(np.linspace(0.85, 0.95, 20), 300, 40)
    assert true < found < 1.8 * true


def test_it_is_zero_for_one_candidate_for_copies_and_for_a_clear_winner() -> None:
    right = (np.random.default_rng(0).random((1, 200)) < 0.8).astype(np.uint8)
    assert optimism(1.0 - right, right).value == 0 and optimism(1.0 - right, right).bound == 0
    copies = np.repeat(right, 5, 0)
    assert abs(optimism(1.0 - copies, copies).value) < 0.01
    clear = np.stack([np.ones(200, np.uint8), np.zeros(200, np.uint8)])
    assert optimism(1.0 - clear, clear).value == 0


def test_the_bound_holds_for_the_largest_of_many_means() -> None:
    rng = np.random.default_rng(0)
    largest = [(rng.random((50, 100)) < 0.5).mean(1).max() - 0.5 for _ in range(200)]
    right = np.zeros((50, 100), np.uint8)
    bound = optimism(1.0 - right, right).bound
    assert bound is not None and bound == pytest.approx(math.sqrt(math.log(50) / 200))
    assert 0.6 * bound < float(np.mean(largest)) < bound


def test_images_that_chose_nothing_show_the_optimism_of_a_network_that_was_fitted_to_the_others() -> None:
    data, spec = load_data("digits"), ArchSpec.from_config("mlp-s")
    fitness = make_fitness(spec, data, data.classes, "keep")
    start, best = (fitness.score(spec.to_flat(build("mlp-s", seed=seed).state_dict())) for seed in (0, 1))
    learned = best.outputs.clone()
    learned[torch.arange(len(learned)), best.targets] += 100  # all validation answers are right, by heart
    by_heart = type(best)(best.spec, best.flat, 0.0, 1.0, learned, best.targets)
    images = spec.config.inputs.prepare(data.train.inputs)
    found = fresh_optimism(by_heart, start, images, data.train.targets, 300)
    honest = fresh_optimism(best, start, images, data.train.targets, 300)
    assert found is not None and honest is not None
    assert found.value > 0.7 and found.candidates == 300 and found.bound is None
    assert honest.standard_error is not None and abs(honest.value) < 4 * honest.standard_error


def test_images_that_trained_the_start_are_not_fresh() -> None:
    data, spec = load_data("digits"), ArchSpec.from_config("mlp-s")
    fitness = make_fitness(spec, data, data.classes, "keep")
    trained, fresh = (fitness.score(spec.to_flat(build("mlp-s", seed=seed).state_dict())) for seed in (0, 1))
    images = spec.config.inputs.prepare(data.val.inputs)
    learned = network_outputs(spec, trained.flat, images).argmax(1)  # labels that the start knows by heart
    assert fresh_optimism(fresh, trained, images, learned, 300) is None
    assert fresh_optimism(fresh, trained, images, data.val.targets, 300) is not None


def test_a_choice_keeps_the_loss_that_chose() -> None:
    data, spec = load_data("digits"), ArchSpec.from_config("mlp-s")
    fitness = make_fitness(spec, data, data.classes, "keep")
    scored = [fitness.score(spec.to_flat(build("mlp-s", seed=seed).state_dict())) for seed in range(4)]
    free, penalised = Choice(), Choice()
    for one in scored:
        free.add(one)
        penalised.add(one, 0.0 if one is scored[0] else 1000.0)
    first, second = free.optimism(), penalised.optimism()
    assert first is not None and first.candidates == 4 and first.value > 0
    assert second is not None and second.value != first.value
    assert Choice().optimism() is None


def test_a_test_score_that_is_too_low_for_its_validation_score_gets_a_remark() -> None:
    fine = Row("fine", 1, 0.9, 0.9, 0.1, images=(300, 500))
    bred = Row("bred", 300, 0.99, 0.9, 0.1, images=(300, 500))
    [remark] = disagreements([fine, bred])
    assert remark.startswith(
        "bred: the test accuracy 0.900 is below the validation accuracy 0.990 by 6.2 standard errors"
    )
    assert disagreements([Row("unknown", 1, 0.99, 0.5, 0.1)]) == []
