"""The strength of a condition: mutual information against closed forms, and the strengths that it chooses."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from popgen.configs.sampling import Sampling
from popgen.configs.search import SearchConfig
from popgen.data import load_data
from popgen.generator import Generator, GeneratorConfig
from popgen.generator.model.conditions import Description
from popgen.generator.strength import CHOICES, choose_strength, mutual_information
from popgen.jobs.search import search


@pytest.fixture(scope="module")
def generator() -> Generator:
    """The built-in generator with `strength: auto` in its settings."""
    found = Generator.from_pretrained("digits")
    found.config = with_strength(found.config, "auto")
    return found


def with_strength(config: GeneratorConfig, strength: float | str) -> GeneratorConfig:
    sampling = Sampling(strength=strength).over(config.prior.sampling)
    return config.model_copy(update={"prior": config.prior.model_copy(update={"sampling": sampling})})


@pytest.mark.parametrize("classes", [2, 5, 10])
def test_certain_and_different_predictions_have_the_highest_mutual_information(classes: int) -> None:
    assert mutual_information(100 * torch.eye(classes)) == pytest.approx(math.log(classes), abs=1e-5)


def test_predictions_that_do_not_depend_on_the_image_have_no_mutual_information() -> None:
    assert mutual_information(torch.tensor([[3.0, -1.0, 0.5]]).expand(20, 3)) == pytest.approx(0, abs=1e-6)
    assert mutual_information(100 * torch.tensor([[1.0, 0.0, 0.0]]).expand(20, 3)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("error", [0.01, 0.1, 0.3])
def test_a_binary_symmetric_channel(error: float) -> None:
    half = math.log((1 - error) / error) / 2
    logits = torch.tensor([[half, -half], [-half, half]]).repeat(7, 1)
    capacity = math.log(2) + error * math.log(error) + (1 - error) * math.log(1 - error)
    assert mutual_information(logits) == pytest.approx(capacity, abs=1e-5)


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(2, 12), st.floats(0, 50))
def test_mutual_information_is_between_0_and_the_logarithm_of_the_classes(
    seed: int, n: int, classes: int, scale: float
) -> None:
    logits = scale * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed))
    assert -1e-5 <= mutual_information(logits) <= math.log(min(n, classes)) + 1e-5


@pytest.mark.parametrize("informative", CHOICES)
def test_the_informative_network_is_chosen(generator: Generator, informative: float) -> None:
    spec, data = generator.spec("mlp-s"), load_data("digits")
    trained = generator.decode("mlp-s", generator.sample("mlp-s", data, 1, sampling=Sampling(strength=1.0)))[0]
    asked: list[float] = []

    def network(strength: float) -> torch.Tensor:
        asked.append(strength)
        return trained if strength == informative else torch.zeros(spec.size)

    found = choose_strength(spec, data.val.inputs, network)
    assert found.value == informative
    assert tuple(found.information) == tuple(asked) == CHOICES
    assert found.information[informative] > 1.5  # nats; the maximum is log 10 = 2.3
    assert all(value == pytest.approx(0, abs=1e-6) for at, value in found.information.items() if at != informative)
    assert (
        choose_strength(spec, data.val.inputs, lambda _: trained).value == CHOICES[0]
    )  # All are equal: the first is chosen.


def test_strength_0_is_the_condition_of_the_average_data_set(generator: Generator) -> None:
    data, other = load_data("digits/rotate:45"), load_data("digits/invert")
    latents = generator.sample("mlp-s", data, 3, seed=1, sampling=Sampling(strength=0.0, prior="network"))
    assert torch.equal(
        latents, generator.sample("mlp-s", other, 3, seed=1, sampling=Sampling(strength=0.0, prior="network"))
    )
    noise = torch.randn(3, *generator.latent_shape, generator=torch.Generator().manual_seed(1))
    condition = generator.condition("mlp-s", data, 3, 1)
    nothing = torch.zeros_like(condition.data)
    without = torch.tensor([[False, False]]).expand(3, -1)
    raw = generator.prior.sample(nothing, condition.arch, noise, None, without)
    assert torch.equal(latents, generator.standardise("mlp-s", raw))
    assert not torch.allclose(
        latents, generator.sample("mlp-s", data, 3, seed=1, sampling=Sampling(strength=1.0, prior="network"))
    )


def test_the_strength_of_a_generator_whose_sampling_gives_none(generator: Generator) -> None:
    data = load_data("digits/rotate:45")
    chosen = generator.strength_for("mlp-s", data)
    assert chosen.value == max(CHOICES, key=chosen.information.__getitem__)
    chosen_by_default, given = (
        generator.sample("mlp-s", data, 2),
        generator.sample("mlp-s", data, 2, sampling=Sampling(strength=chosen.value)),
    )
    assert torch.equal(chosen_by_default, given)
    in_words = generator.strength_for("mlp-s", Description("digits, rotated by 45 degrees"))
    assert (in_words.value, in_words.information) == (1.0, {})  # A description has no images.
    before, generator.config = generator.config, with_strength(generator.config, 0.25)
    try:
        fixed = generator.strength_for("mlp-s", data)
    finally:
        generator.config = before
    assert (fixed.value, fixed.information) == (0.25, {})


@pytest.mark.parametrize("strength", [-0.1, 1.1, "some"])
def test_a_strength_is_from_0_to_1_or_auto(strength: object) -> None:
    assert (
        GeneratorConfig.model_validate({"prior": {"sampling": {"strength": "auto"}}}).prior.sampling.strength == "auto"
    )
    with pytest.raises(ValidationError):
        GeneratorConfig.model_validate({"prior": {"sampling": {"strength": strength}}})


def test_a_search_reports_and_records_the_choice(generator: Generator, tmp_path: Path) -> None:
    folder = generator.save_pretrained(tmp_path / "auto")
    settings = {"evaluations": 26, "compute": {"workers": 0}, "baselines": "none", "finetune": {"mode": "never"}}
    said: list[str] = []

    def details(name: str, of: Path | str) -> dict[str, object]:
        config = SearchConfig(archs=["mlp-s"], data="digits/rotate:45", generator=str(of), **settings)
        return search(config, str(tmp_path / name), say=said.append)[0].details.to_json()

    found = details("run", folder)
    information = found["mutual_information"]
    assert list(information) == ["0", "0.25", "0.5", "0.75", "1"]
    assert found["strength"] == float(max(information, key=information.__getitem__))
    told = [line for line in said if "mutual information" in line]
    assert len(told) == 1
    assert told[0].startswith(
        f"mlp-s: condition at strength {found['strength']:g}, by its networks on unlabelled images"
    )
    said.clear()
    plain = details("plain", "digits")
    assert plain["strength"] == 1.0
    assert "mutual_information" not in plain
    assert not any("strength" in line for line in said)
