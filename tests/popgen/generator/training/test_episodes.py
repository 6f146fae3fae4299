"""Episodes, and generators of directions from a base that are trained on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from popgen.archs import ArchSpec
from popgen.configs.generator import EpisodesConfig, GeneratorConfig
from popgen.configs.load import parse
from popgen.configs.spec import ZooSpec
from popgen.data import load_data
from popgen.encoders.examples import load_example_encoder
from popgen.errors import BadInput, BrokenFile, NotFound
from popgen.generator import Generator
from popgen.generator.model.directions import Directions
from popgen.generator.training import train_generator
from popgen.generator.training.episodes.data import EpisodeData
from popgen.generator.training.episodes.starts import best_record, find_starts
from popgen.networks.episodes import ridge_loss
from popgen.networks.forward import network_features
from popgen.zoo import Zoo, build_zoo

SETTINGS = {
    "augment": "none",
    "threads": 1,
    "device": "cpu",
    "encoders": {"labels": False, "images_per_class": 8, "width": 16, "heads": 2, "out": 8},
    "vae": {"steps": 0, "latent_tokens": 1, "latent_width": 1, "linear": False},
    "restore": {"rank": 0},
    "episodes": {
        "steps": 30,
        "learning_rate": 5e-3,
        "data": ["digits/invert", "digits/rotate:180"],
        "ways": 6,
        "shots": [3],
        "images": 9,
    },
}


def small_zoo(folder: Path, seeds: int = 1) -> Zoo:
    spec = ZooSpec(
        name=folder.name, archs=["cnn-s"], data=["digits"], seeds=list(range(seeds)), recipe={"epochs": 3}, workers=0
    )
    return build_zoo(spec, folder, progress=False)


def settings(**episodes: Any) -> GeneratorConfig:
    return GeneratorConfig.model_validate({**SETTINGS, "episodes": {**SETTINGS["episodes"], **episodes}})


def load(config: GeneratorConfig) -> EpisodeData:
    encoder = load_example_encoder("clip-tiny")
    return EpisodeData.load(config.episodes, config.encoders, encoder, "none", None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Zoo, Generator, Path]:
    folder = tmp_path_factory.mktemp("directions")
    zoo = small_zoo(folder / "zoo")
    return zoo, train_generator(zoo, settings(), folder / "gen", lambda *_: None), folder


def test_an_episode_has_support_before_queries_and_numbers_its_classes() -> None:
    data = load(settings(mixed=1.0))
    torch.manual_seed(0)
    seen = set()
    for _ in range(5):
        episode = data.draw()
        assert [len(batch) for batch in episode.inputs] == [len(episode.labels)] == [6 * 9]
        assert episode.support == 18
        assert torch.equal(episode.labels[:18].bincount(), torch.full((6,), 3))
        assert torch.equal(episode.labels[18:].bincount(), torch.full((6,), 6))
        assert episode.features.shape[:2] == (1, 8)
        identities = {int(episode.identities[episode.labels == label].unique()) for label in range(6)}
        assert len(identities) == 6  # six different classes of the twenty
        seen |= identities
    assert data.count == 20
    assert min(seen) < 10 <= max(seen)  # an episode mixes classes of both data sets


def test_data_sets_of_other_sizes_and_colours_are_mixed_in_one_episode(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (96, 12, 10, 3), dtype=np.uint8), np.arange(96) % 4
    np.savez(tmp_path / "colour.npz", x=images, y=labels)
    config = settings(mixed=1.0, data=["digits", f"npz:{tmp_path / 'colour.npz'}"], steps=4)
    data = load(config)
    torch.manual_seed(0)
    episode = data.draw()
    assert {batch.shape[1:] for batch in episode.inputs} == {(1, 8, 8), (3, 12, 10)}
    assert sum(map(len, episode.inputs)) == len(episode.labels)
    made = train_generator(small_zoo(tmp_path / "zoo"), config, tmp_path / "gen", lambda *_: None)
    assert made.directions_of("cnn-s").dim > 0


def test_data_that_give_no_episode_are_refused() -> None:
    with pytest.raises(BadInput, match="ways is 21, and the data sets have 20 classes together"):
        load(settings(ways=21))
    with pytest.raises(BadInput, match="with 0 classes of 500 training images or more"):
        load(settings(images=500))
    for episodes, why in (
        ({"data": []}, "episodes.data names no data set"),
        ({"shots": [9]}, "more than the largest of shots, 9, are needed"),
    ):
        with pytest.raises(BadInput, match=why):
            parse({"steps": 1, "data": ["digits"], "images": 9} | episodes, EpisodesConfig, "spec")
    with pytest.raises(BadInput, match="nothing would be trained"):
        parse({"vae": {"steps": 0}}, GeneratorConfig, "spec")


def test_ridge_loss_is_that_of_a_regression_with_an_intercept() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(30, 5), torch.arange(3).repeat(10)
    loss = ridge_loss(x, y, 18, 3, torch.tensor(0.2), torch.tensor(5.0))
    support = x[:18] - x[:18].mean(0)
    penalty = 0.2 * support.square().sum() / 5
    rows = torch.cat([support, penalty.sqrt() * torch.eye(5)])  # a penalty is five more rows whose targets are 0
    onehot = F.one_hot(y[:18], 3).float()
    targets = torch.cat([onehot - onehot.mean(0), torch.zeros(5, 3)])
    weight = torch.linalg.lstsq(rows, targets).solution
    expected = F.cross_entropy(5 * ((x[18:] - x[:18].mean(0)) @ weight + onehot.mean(0)), y[18:])
    assert torch.allclose(loss, expected, atol=1e-5)


def test_the_zero_vector_is_the_base_and_some_weights_never_move() -> None:
    spec = ArchSpec.from_config("resnet-s")
    base, directions = torch.rand(spec.size) + 0.1, Directions(spec, 2, 4)
    for step in directions.steps:
        torch.nn.init.normal_(step)
    space = directions.space(base)
    assert torch.equal(space.weights(np.zeros(space.dim)), base)
    vector = torch.randn(space.dim)
    moved = directions.weights(base, vector)
    assert torch.allclose(moved.detach(), space.weights(vector), atol=1e-5)
    state, before = spec.to_state(moved), spec.to_state(base)
    fixed = {t.name for t in spec.tensors if t.kind in ("norm_mean", "norm_var") or t.name.startswith(spec.head)}
    for name, values in state.items():
        if "num_batches" not in name:
            assert torch.equal(values, before[name]) == (name in fixed), name


def test_several_directions_are_trained_apart_and_their_mean_is_proposed_first(tmp_path: Path) -> None:
    zoo = small_zoo(tmp_path / "zoo")
    made = train_generator(zoo, settings(directions=2, steps=40), tmp_path / "gen", lambda *_: None)
    first, second = (step.detach() for step in made.directions_of("cnn-s").steps)
    assert first.norm() > 0 < second.norm()
    assert F.cosine_similarity(first, second, 0) < 0.95  # each had its own episodes
    fresh = Directions(zoo.spec("cnn-s"), 2, 4)
    assert torch.equal(fresh.propose(torch.randn(4)), torch.full((4,), 0.5))
    base, losses = made.bases["cnn-s"], {}
    space = Generator.from_pretrained(tmp_path / "gen").directions_of("cnn-s").space(base)
    for name, coefficients in (("base", [0, 0]), ("first", [1, 0]), ("second", [0, 1]), ("mean", [0.5, 0.5])):
        losses[name] = mean_loss(zoo, space.weights(space.vector(np.array(coefficients))), settings())
    assert max(losses["first"], losses["second"], losses["mean"]) < losses["base"]


@torch.no_grad()
def mean_loss(zoo: Zoo, flat: Tensor, config: GeneratorConfig) -> float:
    spec, data = zoo.spec("cnn-s"), load(config)
    torch.manual_seed(1)
    losses = []
    for _ in range(10):
        episode = data.draw()
        features = network_features(spec, flat, spec.config.inputs.prepare(torch.cat(episode.inputs)))
        losses.append(ridge_loss(features, episode.labels, episode.support, 6, torch.tensor(1.0), torch.tensor(8.0)))
    return float(torch.stack(losses).mean())


def test_a_generator_of_directions_is_trained_and_loaded(trained: tuple[Zoo, Generator, Path]) -> None:
    zoo, made, folder = trained
    generator = Generator.from_pretrained(folder / "gen")
    base = zoo.matrix(zoo.records)[0]
    assert torch.equal(generator.bases["cnn-s"], base)
    data = load_data("digits/invert")
    proposed = generator.propose("cnn-s", data)
    assert proposed.shape == (2,)  # one direction, two layers before the head
    assert torch.allclose(proposed, made.propose("cnn-s", data), atol=1e-2)  # half precision
    space = generator.directions_of("cnn-s").space(base)
    assert torch.equal(space.weights(torch.zeros(2)), base)
    assert mean_loss(zoo, space.weights(proposed), settings()) < mean_loss(zoo, base, settings()) - 0.01
    assert generator.closest("cnn-s", data)[0] == "digits/invert"
    assert not generator.has_latents
    with pytest.raises(BadInput, match="no latents to sample"):
        generator.sample("cnn-s", data)


@pytest.mark.slow  # seconds
def test_a_training_that_was_interrupted_gives_the_same_directions(
    trained: tuple[Zoo, Generator, Path], tmp_path: Path
) -> None:
    zoo, made, _ = trained

    def stop(_stage: str, step: int, _steps: int, _losses: dict[str, float]) -> None:
        if step == 20:
            raise KeyboardInterrupt

    config = settings().model_copy(update={"save_every": 0.0})
    with pytest.raises(KeyboardInterrupt):
        train_generator(zoo, config, tmp_path / "gen", stop)
    again = train_generator(zoo, config, tmp_path / "gen", lambda *_: None)
    assert torch.equal(again.directions_of("cnn-s").steps[0], made.directions_of("cnn-s").steps[0])


def nothing(*_: object) -> None:
    """What a training says of its steps."""


def test_directions_start_from_the_best_network_or_the_named_ones(tmp_path: Path) -> None:
    zoo, data = small_zoo(tmp_path / "zoo", seeds=2), load(settings())
    first, second = zoo.records
    best = max(zoo.records, key=lambda record: record.score("val") or 0)
    assert best_record(zoo, "cnn-s").id == best.id
    both = settings(bases=[second.id, first.id]).episodes
    found = find_starts(zoo, both, data, nothing)["cnn-s"]
    assert found.ids == [second.id, first.id]
    assert torch.equal(found.networks, zoo.matrix([second, first]))
    with pytest.raises(NotFound):
        find_starts(zoo, settings(bases=["cnn-s/digits/s9"]).episodes, data, nothing)
    unscored = Zoo.create(tmp_path / "unscored", "unscored")
    unscored.add([(record.model_copy(update={"metrics": {}}), zoo.state(record)) for record in zoo.records])
    with pytest.raises(BadInput, match="no validation scores to choose by\nName one: generator: {episodes: {bases: "):
        best_record(unscored, "cnn-s")


def test_several_starts_are_those_that_do_best_on_episodes(tmp_path: Path) -> None:
    zoo, config = small_zoo(tmp_path / "zoo", seeds=3), settings(starts=2, directions=2, steps=40)
    [one, two, three] = [mean_loss(zoo, flat, config) for flat in zoo.matrix(zoo.records)]
    made = train_generator(zoo, config, tmp_path / "gen", nothing)
    loaded = Generator.from_pretrained(tmp_path / "gen")
    assert [start.id for start in loaded.starts("cnn-s")] == [start.id for start in made.starts("cnn-s")]
    by_loss = dict(
        sorted(zip((record.id for record in zoo.records), (one, two, three), strict=True), key=lambda x: x[1])
    )
    assert [*by_loss][0] in {start.id for start in made.starts("cnn-s")}
    for start, before in zip(loaded.starts("cnn-s"), made.starts("cnn-s"), strict=True):
        assert torch.equal(start.base, zoo.matrix([zoo.record(start.id)])[0])  # in full precision
        whole = torch.ones(start.directions.dim) / 2
        reached = start.directions.weights(start.base, whole)
        assert torch.allclose(reached, before.directions.weights(before.base, whole), atol=1e-2)
        assert mean_loss(zoo, reached, config) < mean_loss(zoo, start.base, config)
    episodes = load(config)
    with torch.device("meta"):  # as on a GPU, networks are ranked on the CPU
        again = find_starts(zoo, config.episodes, episodes, nothing)["cnn-s"]
    assert again.ids == [start.id for start in loaded.starts("cnn-s")]
    told = json.loads((tmp_path / "gen/config.json").read_text())
    told["provenance"]["starts"]["cnn-s"].pop()
    (tmp_path / "gen/config.json").write_text(json.dumps(told))
    with pytest.raises(BrokenFile, match="do not fit together"):
        Generator.from_pretrained(tmp_path / "gen")
    data = load_data("digits/invert")
    assert loaded.propose("cnn-s", data, start=1).shape == (4,)  # two directions, two layers before the head
