"""Generators for shifts of one data set, whose networks all start at one checkpoint.

They use conditions without labels, statistics of images, frozen batch norm, and residuals whose rank is the number of
checkpoints.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from popgen.archs import ArchSpec
from popgen.configs.spec import Recipe, ZooSpec
from popgen.data import Part, load_data
from popgen.data.images.augment import flip_and_crop
from popgen.data.images.variants import apply_variants
from popgen.encoders.images import ImageEncoder
from popgen.encoders.statistics import DIM, statistics
from popgen.errors import BadInput, NotFound
from popgen.generator import Generator, GeneratorConfig
from popgen.generator.training import train_generator
from popgen.generator.training.stages.vae import best_checkpoint
from popgen.generator.training.train import load_training_data
from popgen.zoo import Zoo, build_zoo, train_network

CONFIG = GeneratorConfig.model_validate(
    {
        "augment": "flip-crop",
        "vae": {"latent_tokens": 2, "latent_width": 2, "width": 32, "steps": 4, "gate": 1, "offset": "checkpoint"},
        "encoders": {
            "images": "clip-tiny+statistics",
            "labels": False,
            "pool": 30,
            "images_per_class": 16,
            "width": 32,
            "out": 8,
            "steps": 4,
        },
        "prior": {"width": 32, "layers": 1, "steps": 4, "batch": 8},
        "tune": {"steps": 3, "networks": 2, "tasks": ["digits/noise:0.2"]},
        "describe": {"steps": 2},
        "restore": {"steps": 2, "rank": 8, "networks": 2},
    }
)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """A zoo of two networks that start from a checkpoint of another zoo and keep its batch-norm statistics."""
    folder = tmp_path_factory.mktemp("zoos")
    base = ZooSpec(name="base", archs=["resnet-s"], data=["digits"], recipe={"epochs": 2}, workers=0)
    build_zoo(base, folder / "base", progress=False)
    recipe = {"epochs": 1, "augment": "flip-crop", "batch_norm": "frozen"}
    spec = ZooSpec(
        name="shifts",
        archs=["resnet-s"],
        data=["digits/noise", "digits/blur"],
        start=f"{folder / 'base'}#resnet-s/digits/s0",
        recipe=recipe,
        workers=0,
    )
    return build_zoo(spec, folder / "shifts", progress=False)


@pytest.fixture(scope="module")
def generator(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Generator:
    folder = tmp_path_factory.mktemp("generator")
    train_generator(zoo, CONFIG, folder, lambda *_: None)
    return Generator.from_pretrained(folder)


def test_networks_start_from_a_checkpoint_and_keep_its_statistics(zoo: Zoo) -> None:
    base = Zoo.open(zoo.folder.parent / "base")
    start = base.state(base.records[0])
    assert torch.equal(zoo.start("resnet-s"), zoo.spec("resnet-s").to_flat(start))  # type: ignore[arg-type]
    for record in zoo.records:
        state = zoo.state(record)
        assert torch.equal(state["bn1.running_mean"], start["bn1.running_mean"])
        assert torch.equal(state["bn1.running_var"], start["bn1.running_var"])
        assert not torch.equal(state["bn1.weight"], start["bn1.weight"])


@pytest.mark.parametrize(
    ("start", "error", "text"),
    [
        ("zoos/none", NotFound, "there is no zoo 'zoos/none'"),
        ("zoos/none#cnn-s/digits/s0", NotFound, "zoos/none"),
        ("digits#cnn-s/digits/s7", NotFound, "cnn-s/digits/s7"),
        (
            "digits#cnn-s/digits/noise/s0",
            BadInput,
            "digits#cnn-s/digits/noise/s0 does not fit the architecture 'mlp-s'",
        ),
    ],
)
def test_a_start_that_is_missing_or_does_not_fit(tmp_path: Path, start: str, error: type[Exception], text: str) -> None:
    spec = ZooSpec(name="z", archs=["mlp-s"], data=["digits"], start=start, workers=0)
    with pytest.raises(error) as refused:
        build_zoo(spec, tmp_path / "z", progress=False)
    assert text in str(refused.value)


def test_augmented_training_is_reproducible() -> None:
    spec, data, recipe = ArchSpec.from_config("mlp-s"), load_data("digits"), Recipe(epochs=1, augment="flip-crop")
    states = [train_network(spec, data, r, start=None, seed=1)[0] for r in (recipe, recipe, Recipe(epochs=1))]
    first, again, plain = (spec.to_flat(state) for state in states)
    assert torch.equal(first, again)
    assert not torch.equal(first, plain)


def test_augmentation_flips_and_moves() -> None:
    images = torch.rand(200, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    moved = flip_and_crop(images, torch.Generator().manual_seed(1))
    assert torch.equal(moved, flip_and_crop(images, torch.Generator().manual_seed(1)))
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    windows = {
        (flip, down, right): (padded.flip(3) if flip else padded)[:, :, down : down + 16, right : right + 16]
        for flip in (False, True)
        for down in range(5)
        for right in range(5)
    }
    found = [
        next(key for key, window in windows.items() if torch.equal(window[i], moved[i])) for i in range(len(images))
    ]
    assert len(set(found)) > 40


def test_statistics_depend_on_the_shift_rather_than_the_image() -> None:
    images = load_data("digits").train.inputs
    halves = [images[:400], images[400:800]]
    shifts = ["noise:0.1", "blur:0.8", "contrast:0.5", "posterize:3"]
    means = {shift: [statistics(apply_variants(half, [shift])).mean(0) for half in halves] for shift in shifts}
    assert means["noise:0.1"][0].shape == (DIM,)
    for shift, (one, other) in means.items():
        distances = {name: float((one - pair[1]).norm()) for name, pair in means.items()}
        assert min(distances, key=distances.__getitem__) == shift
        assert float((one - other).norm()) == distances[shift]
    assert torch.isfinite(statistics(torch.zeros(1, 1, 8, 8))).all()
    assert torch.isfinite(statistics(torch.ones(1, 3, 224, 224))).all()


def test_statistics_are_appended_to_clip_features() -> None:
    images = torch.rand(3, 3, 32, 32)
    features = ImageEncoder.load("clip-tiny+statistics").features(images)
    plain = ImageEncoder.load("clip-tiny").features(images)
    assert torch.equal(features[:, : plain.shape[1]], plain)
    assert torch.allclose(features[:, plain.shape[1] :], statistics(images))


def test_a_condition_without_labels_does_not_depend_on_them(generator: Generator) -> None:
    data = load_data("digits/noise:0.3")
    plain = generator.condition("resnet-s", data, 2).data
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    shuffled = replace(data, train=Part(data.train.inputs, data.train.targets[order]))
    assert torch.equal(generator.condition("resnet-s", shuffled, 2).data, plain)
    some = data.train.take((data.train.targets < 3).nonzero().flatten())
    generator.check_data(replace(data, train=some))  # A generator with labels refuses this.
    other = replace(data, name="other", train=Part(load_data("digits/blur:2").train.inputs, data.train.targets))
    assert not torch.allclose(generator.condition("resnet-s", other, 2).data, plain, atol=1e-2)


def test_there_are_no_more_components_than_checkpoints(generator: Generator, zoo: Zoo) -> None:
    components = generator.residual_of("resnet-s")
    assert components.basis.shape[0] == components.read.shape[0] == 2
    assert generator.residual_codes.shape == (2, 8)
    assert generator.residual_codes[:, 2:].eq(0).all()
    weights = zoo.matrix(zoo.select("resnet-s"))
    latents = generator.encode("resnet-s", weights)
    restored = generator.restore("resnet-s", latents, generator.residual("resnet-s", weights, latents))
    assert (restored - weights).abs().max() < 0.2 * (generator.decode("resnet-s", latents) - weights).abs().max()


def test_decoding_starts_at_the_best_checkpoint(zoo: Zoo) -> None:
    data = load_training_data(zoo, CONFIG)
    own = data.archs["resnet-s"]
    best = best_checkpoint(data, own)
    rows = [own.x[[i]][0] for i in range(2)]
    assert any(torch.equal(best, row) for row in rows)


@pytest.mark.usefixtures("zoo")
def test_bases_are_stored_with_one_byte_for_each_number(generator: Generator, tmp_path: Path) -> None:
    small = Generator.from_pretrained(generator.save_pretrained(tmp_path / "half"))
    small.config = small.config.model_copy(update={"storage": "int8"})
    small = Generator.from_pretrained(small.save_pretrained(tmp_path / "int8"))
    sizes = [(tmp_path / kind / "model.safetensors").stat().st_size for kind in ("half", "int8")]
    # Bytes in half precision: 4 rows of the linear path's basis, and 2 of each basis of the residual.
    bases = 2 * generator.spec("resnet-s").size * (4 + 2 + 2)
    assert sizes[0] - sizes[1] > 0.4 * bases
    path = generator.spec("resnet-s").fingerprint
    z = torch.randn(5, 2, 2, generator=torch.Generator().manual_seed(0))
    before, after = ((one.vae.linear[path](z) - one.vae.linear[path](0 * z)) for one in (generator, small))
    assert 0.001 < float((after - before).norm() / before.norm()) < 0.03
    again = Generator.from_pretrained(small.save_pretrained(tmp_path / "again"))
    assert torch.allclose(again.vae.linear[path](z), small.vae.linear[path](z), atol=1e-4)


def test_components_that_were_not_trained_are_stored_once(zoo: Zoo, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"restore": CONFIG.restore.model_copy(update={"steps": 0})})
    made = train_generator(zoo, config, tmp_path / "g", lambda *_: None)
    found = Generator.from_pretrained(tmp_path / "g").residual_of("resnet-s")
    assert torch.equal(found.basis, found.read)
    assert torch.allclose(found.basis, made.residual_of("resnet-s").basis, atol=1e-3)
    assert found.basis.abs().max() > 0
