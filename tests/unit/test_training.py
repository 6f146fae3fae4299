"""Training a generator on a tiny zoo: what is learned, what is refused, and that a seed decides everything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from popgen.config import ZooSpec
from popgen.errors import BadInput, PopgenError
from popgen.generator import Generator, GeneratorConfig
from popgen.generator.training import train_generator
from popgen.generator.training.tasks import Tasks
from popgen.zoo import Zoo, build_zoo

SPEC = ZooSpec(
    name="tiny",
    archs=["mlp-s", "cnn-s"],
    data=["digits/rotate:0", "digits/rotate:90", "digits/invert"],
    seeds=[0, 1],
    held_out={"data": ["digits/invert"]},
    recipe={"epochs": 2},
    workers=0,
)
CONFIG = GeneratorConfig.model_validate(
    {
        "vae": {"latent_tokens": 2, "latent_width": 4, "width": 32, "steps": 120, "gate": 1, "behaviour_networks": 2},
        "encoders": {"width": 32, "out": 16, "steps": 160},
        "prior": {"width": 32, "layers": 1, "steps": 120, "batch": 64, "ema": 0.9, "sample_steps": 5},
        "tune": {"steps": 40},
    }
)
STAGES = ["vae", "data set encoder", "prior", "tuning"]
Seen = list[tuple[str, int, int, dict[str, float]]]


def changed(config: GeneratorConfig, **sections: dict[str, object]) -> GeneratorConfig:
    content = config.model_dump()
    for section, values in sections.items():
        content[section].update(values)
    return GeneratorConfig.model_validate(content)


SHORT = changed(
    CONFIG,
    vae={"steps": 6},
    encoders={"steps": 4},
    prior={"steps": 4, "batch": 8},
    tune={"steps": 3, "networks": 2},
)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return build_zoo(SPEC, tmp_path_factory.mktemp("zoo") / "tiny", workers=0, progress=False)


@pytest.fixture(scope="module")
def trained(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> tuple[Generator, Path, Seen]:
    folder, seen = tmp_path_factory.mktemp("generator"), Seen()
    made = train_generator(zoo, CONFIG, folder, lambda *report: seen.append((*report[:3], dict(report[3]))))
    return made, folder, seen


def train(zoo: Zoo, config: GeneratorConfig, folder: Path) -> Generator:
    return train_generator(zoo, config, folder, lambda *_: None)


def test_every_step_is_reported_in_order(trained: tuple[Generator, Path, Seen]) -> None:
    seen = trained[2]
    assert list(dict.fromkeys(stage for stage, *_ in seen)) == STAGES
    for stage, steps in zip(STAGES, (120, 160, 120, 40), strict=True):
        assert [(step, total) for name, step, total, _ in seen if name == stage] == [
            (i, steps) for i in range(1, steps + 1)
        ]


@pytest.mark.parametrize(
    ("stage", "name", "share"),
    [
        ("vae", "reconstruction", 0.9),
        ("vae", "behaviour", 0.9),
        ("data set encoder", "contrastive", 0.95),
        ("data set encoder", "regression", 0.95),
        ("prior", "prior", 0.8),
    ],
)
def test_losses_fall(trained: tuple[Generator, Path, Seen], stage: str, name: str, share: float) -> None:
    """The reported losses are smoothed: the last of them still remembers the first."""
    losses = [values[name] for where, _, _, values in trained[2] if where == stage]
    assert losses[-1] < share * losses[0]


def test_what_is_generated_is_better_than_chance(trained: tuple[Generator, Path, Seen]) -> None:
    last = trained[2][-1][3]
    assert {"generated", "mean", "prior", "reconstruction", "kl", "behaviour"} <= last.keys()
    assert last["generated"] < 2.0  # ln 10 is 2.30


def test_the_records_say_what_was_trained_on(zoo: Zoo, trained: tuple[Generator, Path, Seen]) -> None:
    generator = trained[0]
    ids = {r.id for r in zoo.select(held_out=False)}
    assert {c.id for c in generator.records} == ids
    assert len(ids) == len(generator.codes) == 8
    assert not {c.id for c in generator.records} & {r.id for r in zoo.select(held_out=True)}
    assert generator.provenance.data == ["digits/rotate:0", "digits/rotate:90"]
    assert len(generator.data_vectors) == 2
    assert generator.provenance.zoo_sha256 == zoo.sha256
    assert generator.provenance.classes == list("0123456789")
    for code in generator.records:
        latent = generator.encode(code.arch, zoo.matrix([zoo.record(code.id)]))[0]
        assert torch.allclose(latent, generator.codes[code.row], atol=1e-3)


def test_the_folder_holds_the_generator(trained: tuple[Generator, Path, Seen]) -> None:
    generator, folder, _ = trained
    loaded = Generator.from_pretrained(folder)
    assert loaded.records == generator.records
    assert loaded.config == CONFIG
    assert torch.allclose(loaded.codes, generator.codes, atol=1e-2)


def test_held_out_checkpoints_are_not_trained_on(zoo: Zoo, tmp_path: Path) -> None:
    """The same generator comes out when the held-out networks are other ones."""
    other = Zoo.create(tmp_path / "zoo", "tiny")
    other.set_starts({arch: zoo.reference(arch) for arch in zoo.archs})
    generator = torch.Generator().manual_seed(0)
    for record in zoo.records:
        flat = zoo.matrix([record])[0]
        if record.held_out:
            flat = torch.randn(flat.shape, generator=generator)
        other.add([(record.model_copy(update={"shard": "", "row": 0, "sha256": ""}), flat)])
    other.finalize()
    for arch in zoo.archs:
        assert torch.equal(zoo.reference(arch), other.reference(arch))
    first, second = train(zoo, SHORT, tmp_path / "a"), train(other, SHORT, tmp_path / "b")
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("kind", ["flow", "ddpm"])
def test_a_seed_decides_everything(zoo: Zoo, tmp_path: Path, kind: str) -> None:
    config = changed(SHORT, prior={"kind": kind})
    first, again = train(zoo, config, tmp_path / "a"), train(zoo, config, tmp_path / "b")
    other = train(zoo, config.model_copy(update={"seed": 1}), tmp_path / "c")
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
    state, same, different = first.state_dict(), again.state_dict(), other.state_dict()
    assert all(torch.equal(tensor, same[name]) for name, tensor in state.items())
    assert not torch.equal(state["codes"], different["codes"])
    z = first.sample("mlp-s", Tasks.load(zoo, config.encoders).data["digits/rotate:0"], n=2)
    assert torch.isfinite(first.decode("mlp-s", z)).all()


@pytest.mark.parametrize("cut", [("vae", 3), ("prior", 2), ("tuning", 3)], ids=lambda cut: cut[0])
def test_a_training_that_was_cut_off_ends_the_same(zoo: Zoo, tmp_path: Path, cut: tuple[str, int]) -> None:
    def interrupt(stage: str, step: int, *_: object) -> None:
        if (stage, step) == cut:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_generator(zoo, SHORT, tmp_path / "a", interrupt)
    assert not (tmp_path / "a" / "config.json").exists()
    stages: list[str] = []
    train_generator(zoo, SHORT, tmp_path / "a", lambda stage, *_: stages.append(stage))
    assert list(dict.fromkeys(stages)) == STAGES[STAGES.index(cut[0]) :]
    train(zoo, SHORT, tmp_path / "b")
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"model.safetensors", "config.json", "codes.json"}


def test_a_strict_gate_stops_before_the_prior(zoo: Zoo, tmp_path: Path) -> None:
    seen: list[str] = []
    config = changed(SHORT, vae={"steps": 1, "gate": 1e-6, "behaviour": 0})
    with pytest.raises(PopgenError) as caught:
        train_generator(zoo, config, tmp_path / "g", lambda stage, *_: seen.append(stage))
    assert re.search(r"loses [\d.]+ points of .* accuracy, 0.0 are allowed \(generator.vae.gate\)", caught.value.what)
    assert re.fullmatch(r"points lost: (mlp-s|cnn-s) [-\d.]+, (mlp-s|cnn-s) [-\d.]+", caught.value.why)
    assert caught.value.todo.startswith("Train longer (generator.vae.steps)")
    assert seen == ["vae"]
    assert not (tmp_path / "g" / "config.json").exists()


def test_a_zoo_with_one_training_checkpoint_is_refused(zoo: Zoo, tmp_path: Path) -> None:
    single = Zoo.create(tmp_path / "zoo", "single")
    record = zoo.select("mlp-s", held_out=False)[0]
    single.add([(record.model_copy(update={"shard": "", "row": 0, "sha256": ""}), zoo.matrix([record])[0])])
    single.finalize()
    with pytest.raises(BadInput, match="the zoo 'single' has 1 training checkpoints of 'mlp-s'\na generator needs two"):
        train(single, SHORT, tmp_path / "g")
