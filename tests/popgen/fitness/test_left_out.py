"""Examples that are left out one by one."""

from __future__ import annotations

import math

import pytest
import torch

from popgen.archs import ArchSpec
from popgen.data import load_data
from popgen.fitness import make_fitness
from popgen.fitness.heads import fit_ridge_head
from popgen.jobs.searching.decide import barrier
from popgen.networks.forward import network_features


def test_labels_that_train_and_validate_count_once() -> None:
    spec = ArchSpec.from_config("cnn-s")
    few, all_of_them = (load_data(name) for name in ("digits/labels:40", "digits"))
    assert make_fitness(spec, few, (), head="refit").examples == 40
    fitness = make_fitness(spec, all_of_them, (), head="refit")
    assert fitness.examples == len(all_of_them.val) + len(all_of_them.train)


def test_the_loss_of_what_is_left_out_is_its_cross_entropy_alone() -> None:
    spec, data = ArchSpec.from_config("cnn-s"), load_data("digits/labels:40")
    flat = 0.2 * torch.randn(spec.size, generator=torch.Generator().manual_seed(0))
    fitness = make_fitness(spec, data, (), head="refit")
    scored = fitness.score(flat)
    head = fit_ridge_head(network_features(spec, flat, fitness.train[0]), fitness.train[1], 10)
    assert scored.loss == pytest.approx(head.loss, rel=1e-2)  # the head's own factors are finer
    assert scored.score < 1  # errors, each of which would add 1/40
    assert float(scored.image_losses().mean()) == pytest.approx(scored.loss, rel=1e-6)


def test_a_barrier_is_on_the_scale_of_a_loss_without_errors() -> None:
    spec, data = ArchSpec.from_config("cnn-s"), load_data("digits/labels:40")
    networks = 0.2 * torch.randn(2, spec.size, generator=torch.Generator().manual_seed(0))
    fitness = make_fitness(spec, data, (), head="refit")
    middle = fitness.loss_of(networks.mean(0))
    found = barrier("a", "b", {"a": 0.4, "b": 0.6}, fitness, lambda _: networks, 10)
    assert found == pytest.approx((middle - 0.5) / (math.log(10) - 0.5))
