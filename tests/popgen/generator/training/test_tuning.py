"""The stages after the prior: data sets without checkpoints, descriptions, the choice of the prior."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from popgen.configs.sampling import Sampling
from popgen.configs.spec import ArchEntry, DataGrid, HeldOut, ZooSpec
from popgen.data import describe, load_data
from popgen.errors import BadInput
from popgen.generator import Generator, GeneratorConfig
from popgen.generator.model.conditions import Description
from popgen.generator.training import train_generator
from popgen.generator.training.data import TrainingData
from popgen.networks.forward import task_score
from popgen.zoo import Zoo, build_zoo

SPEC = ZooSpec(
    name="tiny",
    archs=["mlp-s"],
    data=["digits/rotate:0", "digits/rotate:90", "digits/invert"],
    seeds=[0, 1],
    held_out={"data": ["digits/invert"]},
    recipe={"epochs": 4},
    workers=0,
)
EXTRA = "digits/rotate:180"


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return build_zoo(SPEC, tmp_path_factory.mktemp("zoo") / "tiny", workers=0, progress=False)


def settings(tune: dict[str, Any], **prior: object) -> GeneratorConfig:
    return GeneratorConfig.model_validate(
        {
            "vae": {
                "latent_tokens": 2,
                "latent_width": 4,
                "width": 32,
                "steps": 60,
                "gate": 1,
                "behaviour_networks": 2,
            },
            "encoders": {"width": 32, "out": 16, "steps": 20},
            "prior": {
                "width": 32,
                "layers": 1,
                "steps": 20,
                "batch": 16,
                "ema": 0.9,
                "sampling": {"steps": 2},
                **prior,
            },
            "describe": {"steps": 300},
            "restore": {"steps": 5, "rank": 2},
            "tune": {"networks": 6, "images": 32, "learning_rate": 3e-3, **tune},
        }
    )


@pytest.fixture(scope="module")
def tuned(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Generator:
    config = settings({"steps": 150, "tasks": [EXTRA, "digits/rotate:0"]}, kind="flow")
    return train_generator(zoo, config, tmp_path_factory.mktemp("g"), lambda *_: None)


def generated(generator: Generator, data: str, condition: Any = None) -> float:
    known, spec = load_data(data), generator.spec("mlp-s")
    latents = generator.sample("mlp-s", condition or known, 4)
    return sum(task_score(spec, flat, known) for flat in generator.decode("mlp-s", latents)) / 4


def test_a_task_without_checkpoints_is_learned(tuned: Generator) -> None:
    assert tuned.provenance.data == ["digits/rotate:0", "digits/rotate:90"]  # it has no codes, and no data vector
    assert {code.data for code in tuned.records} == set(tuned.provenance.data)
    assert generated(tuned, EXTRA) > 0.5


@pytest.mark.slow
def test_it_is_not_learned_where_it_is_no_task(zoo: Zoo, tmp_path: Path) -> None:
    without = train_generator(zoo, settings({"steps": 150}, kind="flow"), tmp_path / "g", lambda *_: None)
    assert generated(without, EXTRA) < 0.5 < generated(without, "digits/rotate:90")


def test_a_description_stands_for_images(tuned: Generator) -> None:
    own, other = (Description(describe(f"digits/rotate:{angle}")) for angle in (180, 0))
    assert generated(tuned, EXTRA, own) > 0.5
    assert tuned.condition("mlp-s", own, n=3).data.shape == (3, 16)
    assert not torch.allclose(tuned.condition("mlp-s", own).data, tuned.condition("mlp-s", other).data, atol=1e-2)


def test_images_of_some_classes_are_enough_for_a_condition(tuned: Generator) -> None:
    whole = load_data(EXTRA)
    kept = [part.take((part.targets >= 3).nonzero().flatten()) for part in (whole.train, whole.val, whole.test)]
    parts = [type(part)(part.inputs, part.targets - 3) for part in kept]
    some = type(whole)("some", whole.classes[3:], *parts)
    assert generated(tuned, EXTRA, some) > 0.4
    unknown = type(whole)("unknown", tuple("abcdefg"), *parts)  # classes that the generator does not know by name
    assert tuned.condition("mlp-s", unknown).data.shape == (1, 16)
    assert not torch.allclose(tuned.condition("mlp-s", some).data, tuned.condition("mlp-s", unknown).data, atol=1e-3)


def test_the_controls_are_other_conditions(tuned: Generator) -> None:
    data = load_data("digits/rotate:90")
    own, shuffled, empty = (tuned.sample("mlp-s", data, 4, control=c) for c in (None, "shuffled", "empty"))
    assert not torch.allclose(own, shuffled, atol=1e-3)
    assert not torch.allclose(own, empty, atol=1e-3)
    other = tuned.sample("mlp-s", load_data("digits/rotate:0"), 4, control="empty")
    assert torch.equal(empty, other)
    assert torch.equal(shuffled, tuned.sample("mlp-s", load_data("digits/rotate:0"), 4, control="shuffled"))


TWO_CLASSES = """
from popgen.data import load_data

def two_classes():
    whole = load_data("digits")
    parts = [p.take((p.targets < 2).nonzero().flatten()) for p in (whole.train, whole.val, whole.test)]
    return type(whole)("two", ("0", "1"), *parts)
"""


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (
            "digits/invert",
            "generator.tune.tasks has 'digits/invert', which the zoo holds out\nit would not be held out",
        ),
        ("two_of_the_digits:two_classes", "with 2 classes\nmlp-s has 10 outputs\nName data sets with the classes"),
    ],
)
def test_a_task_that_does_not_fit_is_refused(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, text: str
) -> None:
    (tmp_path / "two_of_the_digits.py").write_text(TWO_CLASSES)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadInput, match=text):
        train_generator(zoo, settings({"tasks": [task]}), tmp_path / "g", lambda *_: None)


@pytest.mark.parametrize("kind", ["ridge", pytest.param("kde", marks=pytest.mark.slow)])
def test_a_closed_form_prior_needs_no_training(zoo: Zoo, tmp_path: Path, kind: str) -> None:
    stages: list[str] = []
    made = train_generator(zoo, settings({}, kind=kind), tmp_path / "g", lambda stage, *_: stages.append(stage))
    assert list(dict.fromkeys(stages)) == ["vae", "data set encoder", "descriptions", "restoring"]
    loaded = Generator.from_pretrained(tmp_path / "g")
    assert loaded.provenance.prior == made.provenance.prior == kind
    assert set(loaded.provenance.metrics["priors"]) == {"ridge", "kde"}
    data = load_data("digits/rotate:90")
    assert torch.equal(loaded.sample("mlp-s", data, 2), loaded.sample("mlp-s", data, 2, sampling=Sampling(prior=kind)))
    with pytest.raises(BadInput, match=f"no trained prior\nits spec says prior: {kind}\nChoose --prior ridge or kde"):
        loaded.sample("mlp-s", data, 2, sampling=Sampling(prior="network"))


@pytest.mark.slow
def test_a_closed_form_prior_is_chosen_where_it_wins(zoo: Zoo, tmp_path: Path) -> None:
    """Here the trained prior has hardly been trained, and is scored on a data set that is held out."""
    hardly = settings({"steps": 0}, kind="auto")
    hardly = hardly.model_copy(update={"prior": hardly.prior.model_copy(update={"steps": 1})})
    made = train_generator(zoo, hardly, tmp_path / "a", lambda *_: None)
    scores = made.provenance.metrics["priors"]
    assert set(scores) == {"network", "ridge", "kde"}
    forced = settings({"steps": 0}, kind="flow")
    forced = forced.model_copy(update={"prior": forced.prior.model_copy(update={"steps": 1})})
    assert train_generator(zoo, forced, tmp_path / "b", lambda *_: None).provenance.prior == "network"
    if made.provenance.prior != "network":
        assert scores[made.provenance.prior] == max(scores.values())


def test_data_sets_are_read_once_and_described(zoo: Zoo) -> None:
    data = TrainingData.load(zoo, settings({}).encoders, [EXTRA])
    assert data.with_checkpoints == ["digits/rotate:0", "digits/rotate:90"]
    assert list(data.data_sets) == [*data.with_checkpoints, EXTRA]
    assert set(data.sentences) == set(data.features) == set(data.data_sets)
    assert DataGrid(source=EXTRA).names == [EXTRA]


@pytest.mark.slow
def test_an_architecture_is_not_trained_on_data_held_out_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pairs are held out from the behaviour losses, too; the other architecture goes on learning from the data set."""
    data = ["digits/rotate:0", "digits/rotate:90"]
    spec = SPEC.model_copy(
        update={"archs": [ArchEntry(name="mlp-s"), ArchEntry(name="cnn-s")], "data": [DataGrid(source=d) for d in data]}
    )
    spec = spec.model_copy(update={"held_out": HeldOut(pairs=[("cnn-s", data[1])])})
    zoo = build_zoo(spec, tmp_path / "zoo", workers=0, progress=False)
    assert {(r.arch, r.data) for r in zoo.select(held_out=True)} == {("cnn-s", data[1])}
    drawn: set[tuple[str, str]] = set()
    draw_images = TrainingData.draw_images

    def record(self: TrainingData, arch: str, name: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        drawn.add((arch, name))
        return draw_images(self, arch, name, count)

    monkeypatch.setattr(TrainingData, "draw_images", record)
    train_generator(zoo, settings({"steps": 12}), tmp_path / "generator", lambda *_: None)
    assert drawn == {("mlp-s", data[0]), ("mlp-s", data[1]), ("cnn-s", data[0])}
