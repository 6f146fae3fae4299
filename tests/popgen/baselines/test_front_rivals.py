"""The rivals of a front: their numbers, their places between the networks that they are made of, and what a training costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from popgen.archs import ArchSpec
from popgen.baselines.front_rivals import REPEATS, mixtures, noise_around, repeated, reweighted
from popgen.baselines.rivals import RivalInputs, random_weights
from popgen.baselines.trained import Training
from popgen.data import load_data
from popgen.fitness import make_fitness


@pytest.fixture(scope="module")
def given() -> RivalInputs:
    spec, data = ArchSpec.from_config("mlp-s"), load_data("digits/style:invert:0.2")
    return RivalInputs(spec, data, make_fitness(spec, data, data.classes), seed=0, evaluations=41)


def test_two_networks_are_mixed_along_their_line(given: RivalInputs) -> None:
    ends = torch.stack([random_weights(given.spec, seed) for seed in (0, 1)])
    found = list(mixtures(given, ends, ["a", "b"]))
    assert len(found) == 41 and torch.equal(found[0][1], ends[0]) and torch.equal(found[-1][1], ends[1])
    torch.testing.assert_close(found[20][1], ends.mean(0))
    assert found[20][0] == "mixture:0.50*a+0.50*b"
    assert list(mixtures(given, ends[:1], ["a"])) == []


def test_three_networks_are_mixed_on_their_simplex(given: RivalInputs) -> None:
    corners = torch.eye(3)
    found = torch.stack([flat for _, flat in mixtures(given, corners, ["a", "b", "c"])])
    assert found.shape == (41, 3) and bool((found >= 0).all())
    torch.testing.assert_close(found.sum(1), torch.ones(41))
    assert len(found.unique(dim=0)) == 41


def test_noise_goes_around_each_network_in_turn(given: RivalInputs) -> None:
    centres = torch.stack([random_weights(given.spec, seed) for seed in (0, 1)])
    found = list(noise_around(given, centres, ["a", "b"]))
    assert [origin for origin, _ in found[:3]] == ["noise:a", "noise:b", "noise:a"] and len(found) == 41
    for i, (_, flat) in enumerate(found):
        near, far = ((flat - centres[j]).norm() for j in (i % 2, 1 - i % 2))
        assert 0 < near < far


def test_reweighting_repeats_the_smaller_group_and_lowers_its_error(given: RivalInputs) -> None:
    part = given.data.train
    counts = [repeated(part, times).groups.bincount().tolist() for times in (1, 4)]  # type: ignore[union-attr]
    assert counts == [[797, 203], [797, 812]]
    start = random_weights(given.spec, 0)
    budget = replace(given, evaluations=400)
    found = dict(reweighted(budget, start, looked_at=4))
    assert list(found) == [f"reweighted:{times}" for times in REPEATS]
    scores = [given.fitness.score(flat) for flat in found.values()]
    assert all(one.score > 0.5 for one in scores)
    inverted = given.data.val.groups == 1
    errors = [float((one.outputs.argmax(1) != one.targets)[inverted].double().mean()) for one in scores]
    assert errors[-1] < errors[0], "eight times as often against as they are"
    share = replace(given, evaluations=(budget.evaluations - 4) / len(REPEATS))
    training = Training.of(share, 0)
    assert training is not None and training.cost(share) * len(REPEATS) <= 400 - 4


def test_what_cannot_be_trained(given: RivalInputs) -> None:
    start = random_weights(given.spec, 0)
    plain = load_data("digits")
    assert list(reweighted(replace(given, data=plain), start, 0)) == []
    assert list(reweighted(replace(given, evaluations=4), start, 4)) == []
