"""The rivals: each by hand, and none of them ever sees a test image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV

from popgen.archs import build
from popgen.baselines.rivals import Rivals, Row, average, random_weights
from popgen.data import DataSet, Part, load_data
from popgen.fitness import make_fitness
from popgen.generator import Generator
from popgen.zoo import Zoo

CLASSES = tuple("0123456789")
ARCH = "cnn-s"
CLOSEST = ["digits/rotate:30", "digits/rotate:60", "digits/invert"]


@pytest.fixture(scope="module")
def rivals() -> Rivals:
    generator, data = Generator.from_pretrained("digits"), load_data("digits/rotate:45")
    fitness = make_fitness(generator.spec(ARCH), data, CLASSES)
    return Rivals(generator, Zoo.open("digits"), ARCH, data, fitness, 0, CLOSEST)


@pytest.fixture(scope="module")
def rows(rivals: Rivals) -> dict[str, Row]:
    return {row.name: row for row in rivals.rows(30, noise=True)}


def expected(rivals: Rivals, name: str, evaluations: int, flat: torch.Tensor) -> Row:
    """The row of one network, scored on its own."""
    score = rivals.fitness.score(flat)
    test = task_score(score.spec, score.flat, rivals.data.test)
    return Row(name, evaluations, score.accuracy, test, score.loss)


def test_an_average_is_the_mean_of_its_checkpoints(rivals: Rivals, rows: dict[str, Row]) -> None:
    assert rivals.zoo is not None
    records = rivals.zoo.select(ARCH, held_out=False)
    weights = rivals.zoo.matrix(records)
    by_hand = torch.zeros(weights.shape[1])
    chosen = [r for r in records if r.data in ("digits/rotate:30", "digits/rotate:60")]
    for record in chosen:
        by_hand += rivals.zoo.matrix([record])[0] / len(chosen)
    assert len(chosen) == 4
    assert torch.allclose(average(records, weights, CLOSEST[:2]), by_hand, atol=1e-6)
    row = expected(rivals, "average", 1, by_hand)
    assert rows["average"].val_loss == pytest.approx(row.val_loss, rel=1e-4)
    assert rows["average"].test_accuracy == pytest.approx(row.test_accuracy, abs=0.005)


def test_random_is_a_fresh_network(rivals: Rivals, rows: dict[str, Row]) -> None:
    spec = rivals.generator.spec(ARCH)
    flat = random_weights(spec, 0)
    assert torch.equal(flat, spec.to_flat(build(ARCH, seed=0).state_dict()))
    assert rows["random"] == expected(rivals, "random", 1, flat)
    assert rows["random"].val_accuracy < 0.3
    assert not torch.equal(flat, random_weights(spec, 1))


def test_best_zoo_has_the_lowest_validation_loss_of_the_training_checkpoints(
    rivals: Rivals, rows: dict[str, Row]
) -> None:
    assert rivals.zoo is not None
    records = rivals.zoo.select(ARCH, held_out=False)
    found = [expected(rivals, "best_zoo", len(records), flat) for flat in rivals.zoo.matrix(records)]
    assert rows["best_zoo"] == min(found, key=lambda row: row.val_loss)
    assert rows["best_zoo"].val_accuracy > 0.6


def test_ridge_by_its_closed_form(rivals: Rivals, rows: dict[str, Row]) -> None:
    assert rivals.zoo is not None
    generator, records = rivals.generator, rivals.zoo.select(ARCH, held_out=False)
    weights, scaling = rivals.zoo.matrix(records), rivals.generator.scalings[ARCH]
    vectors = dict(zip(generator.provenance.data, generator.data_vectors.double().numpy(), strict=True))
    x = np.stack([vectors[r.data] for r in records])
    y = scaling.normalise(weights).double().numpy()
    alpha = float(RidgeCV(alphas=[10.0**k for k in range(-4, 4)]).fit(x, y).alpha_)
    centred = x - x.mean(0)
    basis = np.linalg.solve(centred.T @ centred + alpha * np.eye(x.shape[1]), centred.T @ (y - y.mean(0)))
    here = generator.mean_embedding(ARCH, rivals.data).double().numpy()
    by_hand = scaling.denormalise(torch.from_numpy((here - x.mean(0)) @ basis + y.mean(0)).float()[None])[0]
    found = rivals.ridge(records, weights)
    assert found is not None
    assert torch.allclose(found, by_hand, atol=1e-3)
    row = expected(rivals, "ridge", 1, by_hand)
    assert rows["ridge"].val_loss == pytest.approx(row.val_loss, rel=1e-2)
    assert rows["ridge"].test_accuracy == pytest.approx(row.test_accuracy, abs=0.01)


def test_ridge_needs_three_checkpoints(rivals: Rivals) -> None:
    assert rivals.zoo is not None
    records = rivals.zoo.select(ARCH, held_out=False)[:3]
    weights = rivals.zoo.matrix(records)
    assert rivals.ridge(records[:2], weights[:2]) is None
    assert rivals.ridge([r.model_copy(update={"data": "elsewhere"}) for r in records], weights) is None
    assert rivals.ridge(records, weights) is not None


def test_without_a_zoo_there_is_only_random(rivals: Rivals, rows: dict[str, Row]) -> None:
    assert list(replace(rivals, zoo=None).rows(30, noise=True)) == [rows["random"]]


def test_noise_is_in_the_table_when_it_is_asked_for(rivals: Rivals, rows: dict[str, Row]) -> None:
    assert list(rows) == ["random", "best_zoo", "average", "ridge", "noise"]
    assert [row.name for row in rivals.rows(3, noise=False)] == ["random", "best_zoo", "average", "ridge"]
    assert (rows["noise"].evaluations, rows["best_zoo"].evaluations) == (30, 52)
    fewer = {row.name: row for row in rivals.rows(5, noise=True)}
    assert rows["noise"].val_loss <= fewer["noise"].val_loss  # the same tries and more
    again = {row.name: row for row in rivals.rows(30, noise=True)}
    assert again == rows


@pytest.mark.parametrize("seed", [0, 1])
def test_test_images_choose_nothing(rivals: Rivals, rows: dict[str, Row], seed: int) -> None:
    """Other test labels, under which another candidate would be best, change the test column alone."""
    data, generator = rivals.data, torch.Generator().manual_seed(seed)
    strange = Part(data.test.inputs, torch.randint(10, (len(data.test),), generator=generator))
    other = DataSet(data.name, data.classes, data.train, data.val, strange)
    fitness = make_fitness(rivals.generator.spec(ARCH), other, CLASSES)
    found = {row.name: row for row in replace(rivals, data=other, fitness=fitness).rows(30, noise=True)}
    assert list(found) == list(rows)
    for name, row in found.items():
        assert (row.val_loss, row.val_accuracy) == (rows[name].val_loss, rows[name].val_accuracy)
        assert row.test_accuracy < 0.25


def test_noise_keeps_variances_positive(rivals: Rivals) -> None:
    data = rivals.data
    fitness = make_fitness(rivals.generator.spec("resnet-s"), data, CLASSES)
    found = {row.name: row for row in replace(rivals, arch="resnet-s", fitness=fitness).rows(20, noise=True)}
    assert all(np.isfinite(row.val_loss) for row in found.values())
    assert found["noise"].val_accuracy > 0.3


def test_no_average_without_checkpoints_on_the_closest_data_sets(rivals: Rivals) -> None:
    found = list(replace(rivals, closest=["digits/elsewhere"]).rows(1, noise=False))
    assert all(np.isfinite(row.val_loss) for row in found)
