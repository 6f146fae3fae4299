"""The rivals: each by hand, and none of them ever sees a test image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV

from popgen.archs import build
from popgen.baselines.rivals import (
    RIVALS,
    STANDARD,
    RivalInputs,
    average,
    one_evaluation_each,
    random_weights,
    ridge,
    rival,
    rival_row,
    rival_rows,
)
from popgen.baselines.row import Row
from popgen.data import DataSet, Part, load_data
from popgen.fitness import make_fitness
from popgen.generator import Generator
from popgen.networks.forward import task_score
from popgen.zoo import Checkpoint, Zoo

CLASSES = tuple("0123456789")
ARCH = "cnn-s"
CLOSEST = ["digits/rotate:30", "digits/rotate:60", "digits/invert"]
ALL = (*STANDARD, "noise")


def inputs_of(arch: str, evaluations: int = 30, data: DataSet | None = None) -> RivalInputs:
    generator, zoo, data = (
        Generator.from_pretrained("digits"),
        Zoo.open("digits"),
        data or load_data("digits/rotate:45"),
    )
    spec = generator.spec(arch)
    records = zoo.select(arch, held_out=False)
    fitness = make_fitness(spec, data, CLASSES)
    return RivalInputs(spec, data, fitness, 0, evaluations, zoo, records, generator, CLOSEST)


@pytest.fixture(scope="module")
def given() -> RivalInputs:
    return inputs_of(ARCH)


@pytest.fixture(scope="module")
def rows(given: RivalInputs) -> dict[str, Row]:
    return {row.name: row for row in rival_rows(ALL, given)}


def expected(given: RivalInputs, name: str, evaluations: int, flat: torch.Tensor) -> Row:
    """The row of one network, scored on its own."""
    scored = given.fitness.score(flat)
    test = task_score(scored.spec, scored.flat, given.data, "test")
    images = len(given.data.val), len(given.data.test)
    return Row(name, evaluations, scored.score, test, scored.loss, images=images)


def records_of(given: RivalInputs) -> tuple[list[Checkpoint], torch.Tensor]:
    assert given.zoo is not None
    records = given.zoo.select(ARCH, held_out=False)
    return records, given.zoo.matrix(records)


def test_an_average_is_the_mean_of_its_checkpoints(given: RivalInputs, rows: dict[str, Row]) -> None:
    records, weights = records_of(given)
    by_hand = torch.zeros(weights.shape[1])
    chosen = [i for i, r in enumerate(records) if r.data in ("digits/rotate:30", "digits/rotate:60")]
    for i in chosen:
        by_hand += weights[i] / len(chosen)
    assert len(chosen) == 4
    assert torch.allclose(average(records, weights, CLOSEST[:2]), by_hand, atol=1e-6)
    row = expected(given, "average", 1, by_hand)
    assert rows["average"].val_loss == pytest.approx(row.val_loss, rel=1e-4)
    assert rows["average"].test_score == pytest.approx(row.test_score, abs=0.005)


def test_random_is_a_fresh_network(given: RivalInputs, rows: dict[str, Row]) -> None:
    flat = random_weights(given.spec, 0)
    assert torch.equal(flat, given.spec.to_flat(build(ARCH, seed=0).state_dict()))
    assert rows["random"] == expected(given, "random", 1, flat)
    assert rows["random"].val_score < 0.3
    assert not torch.equal(flat, random_weights(given.spec, 1))


def test_best_zoo_has_the_lowest_validation_loss_of_the_training_checkpoints(
    given: RivalInputs, rows: dict[str, Row]
) -> None:
    records, weights = records_of(given)
    found = [expected(given, "best_zoo", len(records), flat) for flat in weights]
    assert replace(rows["best_zoo"], optimism=None) == min(found, key=lambda row: row.val_loss)
    chosen = rows["best_zoo"].optimism
    assert chosen is not None and chosen.candidates == len(records) and 0 <= chosen.value < 0.02
    assert rows["best_zoo"].val_score > 0.6


def test_ridge_by_its_closed_form(given: RivalInputs, rows: dict[str, Row]) -> None:
    generator, (records, weights) = given.generator, records_of(given)
    assert generator is not None
    scaling = generator.scalings[ARCH]
    vectors = dict(zip(generator.provenance.data, generator.data_vectors.double().numpy(), strict=True))
    x = np.stack([vectors[r.data] for r in records])
    y = scaling.normalise(weights).double().numpy()
    alpha = float(RidgeCV(alphas=[10.0**k for k in range(-4, 4)]).fit(x, y).alpha_)
    centred = x - x.mean(0)
    basis = np.linalg.solve(centred.T @ centred + alpha * np.eye(x.shape[1]), centred.T @ (y - y.mean(0)))
    here = generator.mean_embedding(ARCH, given.data).double().numpy()
    by_hand = scaling.denormalise(torch.from_numpy((here - x.mean(0)) @ basis + y.mean(0)).float()[None])[0]
    [found] = ridge(given)
    assert torch.allclose(found, by_hand, atol=1e-3)
    row = expected(given, "ridge", 1, by_hand)
    assert rows["ridge"].val_loss == pytest.approx(row.val_loss, rel=1e-2)
    assert rows["ridge"].test_score == pytest.approx(row.test_score, abs=0.01)


def test_ridge_needs_three_checkpoints_that_the_generator_knows(given: RivalInputs) -> None:
    records = records_of(given)[0][:3]
    elsewhere = [record.model_copy(update={"data": "elsewhere"}) for record in records]
    assert list(ridge(replace(given, records=records[:2]))) == []
    assert list(ridge(replace(given, records=elsewhere))) == []
    assert list(ridge(replace(given, generator=None))) == []
    assert len(list(ridge(replace(given, records=records)))) == 1


def test_without_a_zoo_there_is_only_random(given: RivalInputs, rows: dict[str, Row]) -> None:
    assert list(rival_rows(ALL, replace(given, zoo=None, records=()))) == [rows["random"]]


def test_noise_has_as_many_tries_as_the_search(given: RivalInputs, rows: dict[str, Row]) -> None:
    assert list(rows) == ["random", "best_zoo", "average", "ridge", "noise"]
    assert (rows["noise"].evaluations, rows["best_zoo"].evaluations) == (30, 52)
    fewer = rival_row("noise", replace(given, evaluations=5))
    assert fewer is not None and rows["noise"].val_loss <= fewer.val_loss  # the same tries and more
    assert {row.name: row for row in rival_rows(ALL, inputs_of(ARCH))} == rows


@pytest.mark.parametrize("seed", [0, 1])
def test_test_images_choose_nothing(given: RivalInputs, rows: dict[str, Row], seed: int) -> None:
    """Other test labels, under which another candidate would be best, change the test column alone."""
    data, generator = given.data, torch.Generator().manual_seed(seed)
    strange = Part(data.test.inputs, torch.randint(10, (len(data.test),), generator=generator))
    other = DataSet(data.name, data.classes, data.train, data.val, strange)
    found = {row.name: row for row in rival_rows(ALL, inputs_of(ARCH, data=other))}
    assert list(found) == list(rows)
    for name, row in found.items():
        assert (row.val_loss, row.val_score) == (rows[name].val_loss, rows[name].val_score)
        assert row.test_score < 0.25


def test_noise_keeps_variances_positive() -> None:
    found = {row.name: row for row in rival_rows(ALL, inputs_of("resnet-s", 20))}
    assert all(np.isfinite(row.val_loss) for row in found.values())
    assert found["noise"].val_score > 0.3


def test_no_average_without_checkpoints_on_the_closest_data_sets(given: RivalInputs) -> None:
    assert rival_row("average", replace(given, closest=["digits/elsewhere"])) is None


@pytest.fixture
def own_rival() -> Iterator[str]:
    """A user's rival: two networks, with a training that costs ten evaluations."""

    @rival("mine", row="my own", cost=lambda given, scored: one_evaluation_each(given, scored) + 10)
    def mine(given: RivalInputs) -> Iterator[torch.Tensor]:
        yield from (random_weights(given.spec, seed) for seed in (7, 8))

    yield "mine"
    del RIVALS["mine"]


def test_a_rival_brings_its_name_and_its_cost(given: RivalInputs, own_rival: str) -> None:
    row = rival_row(own_rival, given)
    assert row is not None and (row.name, row.evaluations) == ("my own", 12)
    losses = [given.fitness.score(random_weights(given.spec, seed)).loss for seed in (7, 8)]
    assert row.val_loss == min(losses)
    with pytest.raises(AssertionError, match="two rivals are called mine"):
        rival("mine")(lambda _: [])


def test_a_candidate_is_finished_in_every_treatment(given: RivalInputs) -> None:
    given = inputs_of("resnet-s")
    both = [replace(given.fitness, batch_norm=name) for name in ("keep", "reestimate")]
    row = rival_row("random", given, ("keep", "reestimate"))
    assert row is not None and row.evaluations == 2
    flat = random_weights(given.spec, 0)
    assert row.val_loss == min(fitness.score(flat).loss for fitness in both)
