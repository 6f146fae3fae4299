"""popgen/fitness/batch_norm.py: treatments of batch norm by a share, and their choice by labels and without."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.data import load_data
from popgen.errors import BadInput, NotFound
from popgen.fitness import Fitness, make_fitness, scores_under
from popgen.fitness.batch_norm import (
    CHOICES,
    KEPT_OR_NOT,
    checked,
    choose_batch_norm,
    most_informative,
    treated,
)
from popgen.fitness.information import information_gain
from popgen.generator.strength import mutual_information
from popgen.networks.batchnorm import reestimate
from popgen.refs import asset
from popgen.zoo import Zoo

DIGITS = tuple(map(str, range(10)))
STATISTICS = ("norm_mean", "norm_var")


@pytest.fixture(scope="module")
def fitness() -> Fitness:
    """Training images are brighter than validation images, so that their statistics are not right."""
    found = make_fitness(ArchSpec.from_config("resnet-s"), load_data("digits/rotate:30"), DIGITS)
    return replace(found, train=(1.9 * found.train[0], found.train[1]))


@pytest.fixture(scope="module")
def good() -> Tensor:
    """A network that was trained on the data set."""
    shipped = asset("zoos", "digits")
    assert shipped is not None
    zoo = Zoo.open(shipped)
    return zoo.matrix(zoo.select("resnet-s", "digits/rotate:30"))[0]


@pytest.fixture(scope="module")
def moved(fitness: Fitness, good: Tensor) -> Tensor:
    """That network with statistics that are right when a quarter of the way to the re-estimated ones is gone."""
    spec = fitness.spec
    elsewhere = reestimate(spec, good, fitness.train[0])
    is_statistic = torch.cat([torch.full((t.size,), t.kind in STATISTICS) for t in spec.tensors])
    return torch.where(is_statistic, (good - 0.25 * elsewhere) / 0.75, good)


def test_a_share_is_treated_as_its_name_at_both_ends(fitness: Fitness, good: Tensor) -> None:
    spec, inputs = fitness.spec, fitness.train[0]
    ends = reestimate(spec, good, inputs)
    assert treated(spec, good, inputs, checked(0)).equal(good)
    assert treated(spec, good, inputs, checked(1)).equal(ends)
    half = treated(spec, good, inputs, 0.5)
    assert torch.allclose(half, (good + ends) / 2, atol=1e-5) and not half.equal(good)


def test_a_share_of_nothing_is_refused() -> None:
    for value in (-0.1, 1.5, math.nan):
        with pytest.raises(BadInput, match="from 0 to 1"):
            checked(value)
    with pytest.raises(NotFound, match="reestimate"):
        checked("reestimat")


def test_scores_under_treatments_are_those_of_a_fitness_with_each(fitness: Fitness, good: Tensor) -> None:
    scored = scores_under(fitness, good, CHOICES)
    assert tuple(scored) == CHOICES
    for name, one in scored.items():
        alone = replace(fitness, batch_norm=name).score(good)
        assert (one.loss, one.score) == (alone.loss, alone.score) and one.flat.equal(alone.flat)
        assert replace(fitness, batch_norm=name).score_many(good[None])[0].loss == pytest.approx(alone.loss)


@pytest.mark.parametrize("label_free", [False, True])
def test_a_share_between_is_chosen_where_it_is_best(fitness: Fitness, moved: Tensor, label_free: bool) -> None:
    fitness = replace(fitness, label_free=label_free)
    losses = {name: one.loss for name, one in scores_under(fitness, moved, CHOICES).items()}
    chosen = fitness.prefer_batch_norm(moved).batch_norm
    assert chosen == 0.25 == min(losses, key=losses.__getitem__)
    assert fitness.prefer_batch_norm(moved, KEPT_OR_NOT).batch_norm in KEPT_OR_NOT


def test_without_labels_no_label_is_looked_at(fitness: Fitness, moved: Tensor) -> None:
    free, (inputs, targets) = replace(fitness, label_free=True), fitness.val
    other = replace(free, val=(inputs, targets.roll(1)), train=(fitness.train[0], fitness.train[1].roll(1)))
    assert other.prefer_batch_norm(moved).batch_norm == free.prefer_batch_norm(moved).batch_norm
    assert other.racing_order.equal(free.racing_order)
    assert other.score(moved).loss == free.score(moved).loss and other.score(moved).score != free.score(moved).score


def test_the_loss_without_labels_is_mutual_information(fitness: Fitness, good: Tensor) -> None:
    scored = replace(fitness, label_free=True).score(good)
    assert scored.loss == pytest.approx(math.log(10) - mutual_information(scored.outputs))
    assert scored.score == fitness.score(good).score


def test_keep_is_given_up_only_for_a_gain_beyond_its_error() -> None:
    generator = torch.Generator().manual_seed(0)
    kept = torch.randn(40, 5, generator=generator)
    little, much = kept + 0.1 * torch.randn(40, 5, generator=generator), 3 * kept
    better = kept + 0.05 * kept.sign()
    assert mutual_information(better) > mutual_information(kept)
    flattered = torch.where(torch.arange(40)[:, None] < 3, much, kept)  # three images are more certain
    assert mutual_information(flattered) > mutual_information(kept)
    chosen = most_informative({"keep": kept, "reestimate": flattered})
    assert chosen.treatment == "keep" and (chosen.gain, chosen.error) == information_gain(kept, flattered)
    assert "no gain" in chosen.text()
    assert most_informative({"keep": kept, "reestimate": little, 0.5: much}).treatment == 0.5


def test_outputs_that_are_not_finite_are_not_chosen() -> None:
    fine, broken = torch.eye(3), torch.full((3, 3), math.nan)
    assert most_informative({"keep": broken, "reestimate": fine}).treatment == "reestimate"
    assert most_informative({"keep": fine, "reestimate": broken}).treatment == "keep"
    nothing = most_informative({"keep": broken})
    assert nothing.treatment == "keep" and "finite" in nothing.text()


def test_the_choice_without_a_fitness_is_the_same(fitness: Fitness, moved: Tensor) -> None:
    assert choose_batch_norm(fitness.spec, moved, fitness.train[0], fitness.val[0]).treatment == 0.25
    plain = ArchSpec.from_config("mlp-s")
    assert choose_batch_norm(plain, torch.zeros(plain.size), fitness.train[0], fitness.val[0]).treatment == "keep"
