"""The built-in generator, tested by what its networks do on the digits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from popgen.configs.sampling import Sampling
from popgen.data import Part, load_data
from popgen.errors import BadInput, NotFound
from popgen.generator import Generator
from popgen.networks.forward import task_score
from popgen.zoo import Zoo


@pytest.fixture(scope="module")
def digits() -> Generator:
    return Generator.from_pretrained("digits")


def mean_accuracy(generator: Generator, arch: str, latents: Tensor, data: str) -> float:
    """Mean validation accuracy of decoded latents on a data set."""
    weights, known = generator.decode(arch, latents), load_data(data)
    return sum(task_score(generator.spec(arch), flat, known) for flat in weights) / len(weights)


def test_the_condition_of_a_data_set_depends_on_its_training_images_alone(digits: Generator) -> None:
    data = load_data("digits/rotate:45")
    first = digits.condition("cnn-s", data, seed=1)
    assert torch.equal(first.data, digits.condition("cnn-s", data, seed=1).data)
    assert not torch.equal(first.data, digits.condition("cnn-s", data, seed=2).data)
    assert not torch.equal(first.arch, digits.condition("mlp-s", data, seed=1).arch)
    swapped = type(data)(data.name, data.classes, data.train, data.test, data.val)
    assert torch.equal(first.data, digits.condition("cnn-s", swapped, seed=1).data)


def test_data_that_cannot_be_a_condition_are_refused_before_anything_is_encoded(digits: Generator) -> None:
    data = load_data("digits")
    without = replace(data, train=data.train.take((data.train.targets != 3).nonzero().flatten()))
    nothing = replace(data, train=data.train.take(torch.arange(0)))
    texts = replace(data, train=Part(torch.zeros(9, 4, dtype=torch.long), torch.zeros(9, dtype=torch.long)))
    stored = digits.condition("mlp-s", data)
    for wrong, text in [
        (without, "has classes without training images: 3"),
        (nothing, "has no training examples"),
        (texts, "has no images"),
    ]:
        for call in (
            lambda wrong=wrong: digits.sample("mlp-s", wrong, 1),
            lambda wrong=wrong: digits.sample("mlp-s", wrong, 1, condition=stored),
            lambda wrong=wrong: digits.condition("mlp-s", wrong),
            lambda wrong=wrong: digits.closest("mlp-s", wrong),
        ):
            with pytest.raises(BadInput, match=text):
                call()


@pytest.mark.parametrize("arch", ["mlp-s", "cnn-s", "cnn-m", "resnet-s"])
def test_checkpoints_keep_their_accuracy_through_the_latent(digits: Generator, arch: str) -> None:
    zoo, lost = Zoo.open("digits"), []
    for held_out in (False, True):
        for data in ("digits/rotate:30", "digits/invert", "digits/rotate:180", "digits/rotate:0"):
            weights = zoo.matrix(zoo.select(arch, data, held_out)[:1])
            before = task_score(digits.spec(arch), weights[0], load_data(data))
            lost.append(before - mean_accuracy(digits, arch, digits.encode(arch, weights), data))
    assert sum(lost) / len(lost) < 0.05
    assert max(lost) < 0.15


def test_stored_codes_are_the_latents_of_the_zoo(digits: Generator) -> None:
    zoo = Zoo.open("digits")
    assert digits.provenance.zoo_sha256 == zoo.sha256
    assert sorted(r.id for r in digits.records) == sorted(r.id for r in zoo.select(held_out=False))
    assert [r.row for r in digits.records] == list(range(len(digits.codes)))
    flat = digits.codes.flatten(1)
    assert torch.allclose(flat.mean(0), torch.zeros(flat.shape[1]), atol=0.01)
    assert torch.allclose(flat.std(0), torch.ones(flat.shape[1]), atol=0.01)
    found = digits.stored("cnn-s", "digits/rotate:30")
    assert [c.val_score for c, _ in found] == sorted((c.val_score for c, _ in found), reverse=True)
    assert {(c.arch, c.data) for c, _ in found} == {("cnn-s", "digits/rotate:30")}
    code, latent = found[0]
    assert torch.allclose(digits.encode("cnn-s", zoo.matrix([zoo.record(code.id)]))[0], latent, atol=0.05)
    assert mean_accuracy(digits, "cnn-s", latent[None], "digits/rotate:30") > 0.85
    assert digits.stored("cnn-s", "digits/rotate:45") == []


def test_samples_depend_on_the_seed(digits: Generator) -> None:
    data = load_data("digits/rotate:45")
    first = digits.sample("cnn-s", data, n=3, seed=1)
    assert first.shape == (3, *digits.latent_shape)
    assert torch.equal(first, digits.sample("cnn-s", data, n=3, seed=1))
    assert (first - digits.sample("cnn-s", data, n=3, seed=2)).abs().max() > 1e-3
    assert (first[0] - first[1]).abs().max() > 1e-3


def test_samples_depend_on_the_condition(digits: Generator) -> None:
    """Networks for another rotation, or without guidance, are bad: a generator that ignores its condition would fail."""
    for arch in ("cnn-s", "mlp-s"):
        own, other, ignored = (
            mean_accuracy(
                digits,
                arch,
                digits.sample(arch, load_data(f"digits/rotate:{a}"), n=6, sampling=Sampling(guidance=g)),
                target,
            )
            for a, g, target in [
                (30, None, "digits/rotate:30"),
                (210, None, "digits/rotate:30"),
                (30, 0.0, "digits/rotate:30"),
            ]
        )
        assert own > 0.75
        assert other < own - 0.3
        assert ignored < own - 0.3


def test_the_closest_data_sets_of_a_rotation_are_its_neighbours(digits: Generator) -> None:
    closest = digits.closest("cnn-s", load_data("digits/rotate:45"))
    assert set(closest[:2]) == {"digits/rotate:30", "digits/rotate:60"}
    assert sorted(closest) == sorted(digits.provenance.data)


def test_stored_codes_of_the_nearest_data_sets_come_first(digits: Generator) -> None:
    names = digits.nearest(digits.data_vectors[digits.provenance.data.index("digits/rotate:30")])
    assert names[0] == "digits/rotate:30"
    assert sorted(names) == sorted(digits.provenance.data)
    one_by_one = [pair for name in names for pair in digits.stored("cnn-s", name)]
    for most in (0, 1, 20, None):
        found = digits.stored_near("cnn-s", names, most)
        assert [code.id for code, _ in found] == [code.id for code, _ in one_by_one[:most]]
        assert all(torch.equal(latent, digits.codes[code.row]) for code, latent in found)
    assert digits.stored_near("cnn-s", ["digits/nowhere"], 3) == []


def test_the_decoder_takes_flat_vectors_of_a_search(digits: Generator) -> None:
    latent = digits.codes[0]
    arch = digits.records[0].arch
    flat = digits.decode(arch, latent[None])[0]
    assert torch.equal(digits.decoder(arch).weights(latent.flatten().double().numpy()), flat)
    assert digits.state(arch, latent).keys() == digits.spec(arch).to_state(flat).keys()
    with pytest.raises(NotFound, match="no architecture in this generator called 'cnn-x'\nnearest known: cnn-s"):
        digits.spec("cnn-x")
