"""Training a generator on a tiny zoo: what is learned, what is refused, and that a seed decides everything."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tensorboardX.proto.event_pb2 import Event

from popgen.configs.spec import ZooSpec
from popgen.errors import BadInput, PopgenError
from popgen.generator import Generator, GeneratorConfig
from popgen.generator.training import loop, train_generator
from popgen.generator.training.data import TrainingData
from popgen.generator.training.log import Log
from popgen.generator.training.loop import Loop
from popgen.generator.training.saved_progress import SavedProgress
from popgen.generator.training.stages.vae import vae_stage
from popgen.generator.training.workers import Workers, check_workers
from popgen.weights import Scaling
from popgen.zoo import Zoo, build_zoo
from popgen.zoo.weight_rows import WeightRows

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
        "prior": {"width": 32, "layers": 1, "steps": 120, "batch": 64, "ema": 0.9, "sampling": {"steps": 5}},
        "tune": {"steps": 40},
        "describe": {"steps": 30},
        "restore": {"steps": 50, "rank": 2, "networks": 2, "learning_rate": 3e-3},
    }
)
STAGES = ["vae", "data set encoder", "prior", "tuning", "descriptions", "restoring"]
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
    describe={"steps": 2},
    restore={"steps": 3},
)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return build_zoo(SPEC, tmp_path_factory.mktemp("zoo") / "tiny", workers=0, progress=False)


@pytest.fixture(scope="module")
def trained(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> tuple[Generator, Path, Seen]:
    folder, seen = tmp_path_factory.mktemp("generator"), Seen()
    made = train_generator(zoo, CONFIG, folder, lambda *step: seen.append((*step[:3], dict(step[3]))))
    return made, folder, seen


@pytest.fixture(scope="module")
def trained_short(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("short")
    train(zoo, SHORT, folder)
    return folder


def figures(folder: Path) -> list[dict[str, object]]:
    """The log without its times."""
    lines = [json.loads(line) for line in (folder / "log" / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def train(zoo: Zoo, config: GeneratorConfig, folder: Path) -> Generator:
    return train_generator(zoo, config, folder, lambda *_: None)


def test_every_step_is_reported_in_order(trained: tuple[Generator, Path, Seen]) -> None:
    seen = trained[2]
    assert list(dict.fromkeys(stage for stage, *_ in seen)) == STAGES
    for stage, steps in zip(STAGES, (120, 160, 120, 40, 30, 50), strict=True):
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
        ("restoring", "behaviour", 0.95),
    ],
)
def test_losses_fall(trained: tuple[Generator, Path, Seen], stage: str, name: str, share: float) -> None:
    """The reported losses are smoothed: the last of them still remembers the first."""
    losses = [values[name] for where, _, _, values in trained[2] if where == stage]
    assert losses[-1] < share * losses[0]


def test_restored_checkpoints_are_closer_than_decoded_ones(zoo: Zoo, trained: tuple[Generator, Path, Seen]) -> None:
    generator = trained[0]
    for arch in generator.specs:
        weights = zoo.matrix(zoo.select(arch, held_out=False))
        latents = generator.encode(arch, weights)
        rest = generator.residual(arch, weights, latents)
        assert rest.shape == (4, 2)
        x, decoded, restored = (
            generator.scalings[arch].normalise(w)
            for w in (weights, generator.decode(arch, latents), generator.restore(arch, latents, rest))
        )
        assert (restored - x).square().mean() < 0.95 * (decoded - x).square().mean()
        rows = [code.row for code in generator.records if code.arch == arch]
        ids = {r.id: i for i, r in enumerate(zoo.select(arch, held_out=False))}
        order = [ids[code.id] for code in generator.records if code.arch == arch]
        assert torch.allclose(generator.residual_codes[rows], rest[order], atol=1e-3)


def test_what_is_generated_is_better_than_chance(trained: tuple[Generator, Path, Seen]) -> None:
    last = [losses for stage, _, _, losses in trained[2] if stage == "tuning"][-1]
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


@pytest.mark.parametrize("kind", ["flow", pytest.param("ddpm", marks=pytest.mark.slow)])
def test_a_seed_decides_everything(zoo: Zoo, trained_short: Path, tmp_path: Path, kind: str) -> None:
    config = changed(SHORT, prior={"kind": kind})
    first = train(zoo, config, tmp_path / "a")
    before = trained_short / "model.safetensors"
    if kind == "flow":  # the same settings as those of `trained_short`
        assert (tmp_path / "a" / "model.safetensors").read_bytes() == before.read_bytes()
    other = train(zoo, config.model_copy(update={"seed": 1}), tmp_path / "c")
    state, different = first.state_dict(), other.state_dict()
    assert not torch.equal(state["codes"], different["codes"])
    z = first.sample("mlp-s", TrainingData.load(zoo, config.encoders).data_sets["digits/rotate:0"], n=2)
    assert torch.isfinite(first.decode("mlp-s", z)).all()


CUTS = [("vae", 3), ("data set encoder", 2), ("prior", 2), ("tuning", 2), ("descriptions", 1), ("restoring", 2)]


@pytest.mark.parametrize(
    ("cut", "save_every"),
    [
        *(
            pytest.param(cut, 0, id=f"{cut[0]}, every step saved", marks=[] if cut == CUTS[2] else [pytest.mark.slow])
            for cut in CUTS
        ),
        pytest.param(CUTS[2], 1000, id="prior, stages saved", marks=pytest.mark.slow),
    ],
)
def test_a_training_that_was_cut_off_ends_the_same(
    zoo: Zoo, trained_short: Path, tmp_path: Path, cut: tuple[str, int], save_every: float
) -> None:
    config, out = SHORT.model_copy(update={"save_every": save_every}), tmp_path / "a"

    def interrupt(stage: str, step: int, *_: object) -> None:
        if (stage, step) == cut:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_generator(zoo, config, out, interrupt)
    assert not (out / "config.json").exists()
    seen: list[tuple[str, int]] = []
    train_generator(zoo, config, out, lambda stage, step, *_: seen.append((stage, step)))
    assert seen[0] == (cut[0], 1 if save_every else cut[1] + 1)
    assert list(dict.fromkeys(stage for stage, _ in seen)) == STAGES[STAGES.index(cut[0]) :]
    assert (out / "model.safetensors").read_bytes() == (trained_short / "model.safetensors").read_bytes()
    assert figures(out) == figures(trained_short)
    files = {"README.md", "model.safetensors", "config.json", "codes.json", "texts.json", "log"}
    assert {p.name for p in out.iterdir()} == files


def test_a_save_that_was_cut_off_is_not_used(zoo: Zoo, trained_short: Path, tmp_path: Path) -> None:
    """The tensors are written before the facts that point at them; half of a save is an older one's step."""
    config, out = SHORT.model_copy(update={"save_every": 0}), tmp_path / "a"

    def interrupt(stage: str, step: int, *_: object) -> None:
        if (stage, step) == ("vae", 4):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_generator(zoo, config, out, interrupt)
    assert {p.name for p in (out / "unfinished").glob("step-*")} == {"step-4.json", "step-4.safetensors"}
    (out / "unfinished" / "step-5.safetensors").write_bytes(b"torn")
    seen: list[tuple[str, int]] = []
    train_generator(zoo, config, out, lambda stage, step, *_: seen.append((stage, step)))
    assert seen[0] == ("vae", 5)
    assert (out / "model.safetensors").read_bytes() == (trained_short / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_an_interrupted_training_may_go_on_with_more_memory(zoo: Zoo, trained_short: Path, tmp_path: Path) -> None:
    """A zoo larger than memory is read as it is needed, and gives the same generator."""

    def interrupt(stage: str, *_: object) -> None:
        if stage == "prior":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_generator(zoo, SHORT.model_copy(update={"memory": 0}), tmp_path / "a", interrupt)
    train(zoo, SHORT, tmp_path / "a")
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (trained_short / "model.safetensors").read_bytes()


def test_rows_are_read_or_kept(zoo: Zoo) -> None:
    records = zoo.select("mlp-s")
    scaling = Scaling.of(zoo.spec("mlp-s"), zoo.reference("mlp-s"), zoo.scales("mlp-s"))
    kept, read = WeightRows(zoo, records, scaling), WeightRows(zoo, records, scaling, in_memory=False)
    assert (kept.in_memory, read.in_memory) == (True, False)
    assert len(kept) == len(read) == 6
    for rows in ([4, 0, 4], slice(1, 3), []):
        assert torch.equal(kept[rows], read[rows])
    assert torch.equal(kept[[4, 0]], scaling.normalise(zoo.matrix([records[4], records[0]])))
    assert torch.equal(torch.cat(list(read.chunks())), kept[:])
    assert torch.allclose(read.mean(), kept[:].mean(0), atol=1e-6)


def test_the_log_holds_the_figures(zoo: Zoo, tmp_path: Path) -> None:
    config = changed(SHORT, vae={"steps": 120})
    train(zoo, config, tmp_path / "g")
    lines = [json.loads(line) for line in (tmp_path / "g" / "log" / "metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [
        ("vae", 50),
        ("vae", 100),
        ("vae", 120),
        ("data set encoder", 4),
        ("prior", 4),
        ("tuning", 3),
        ("descriptions", 2),
        ("restoring", 3),
    ]
    assert {"reconstruction", "kl", "behaviour", "learning_rate", "seconds", "steps"} <= lines[0].keys()
    for stage, tag in (("vae", "reconstruction"), ("tuning", "generated")):
        found = events(tmp_path / "g" / "log" / stage, tag)
        wanted = {line["step"]: line[tag] for line in lines if line["stage"] == stage}
        assert dict(found) == pytest.approx(wanted, rel=1e-6)


def events(folder: Path, tag: str) -> list[tuple[int, float]]:
    """Steps and values of a tag in TensorBoard's files: records of length, checksum, event, checksum."""
    found = []
    for file in sorted(folder.glob("events*")):
        content, at = file.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            found += [(event.step, value.simple_value) for value in event.summary.value if value.tag == tag]
            at += length + 16
    return found


def test_held_out_checkpoints_are_watched(zoo: Zoo, tmp_path: Path) -> None:
    other = Zoo.create(tmp_path / "zoo", "other")  # here a seed is held out, whose data sets are those of training
    other.set_starts({arch: zoo.reference(arch) for arch in zoo.archs})
    for record in zoo.records:
        changes = {"shard": "", "row": 0, "sha256": "", "held_out": record.seed == 1}
        other.add([(record.model_copy(update=changes), zoo.matrix([record])[0])])
    other.finalize()
    seen = Seen()
    train_generator(other, SHORT, tmp_path / "g", lambda *step: seen.append((*step[:3], dict(step[3]))))
    for stage, _, _, values in seen:
        assert (0 <= values["held-out accuracy"] <= 1) if stage in ("vae", "tuning", "restoring") else len(values) < 3
        assert (0 <= values["generated accuracy"] <= 1) if stage == "tuning" else "generated accuracy" not in values


def test_a_step_has_the_mean_gradient_of_its_micro_batches(zoo: Zoo, tmp_path: Path) -> None:
    """The gradient of a step with two micro-batches is the mean of those of two steps with the same random numbers."""
    data = TrainingData.load(zoo, CONFIG.encoders)
    torch.manual_seed(0)
    generator = Generator(
        SHORT,
        {n: t.spec for n, t in data.archs.items()},
        {n: t.scaling for n, t in data.archs.items()},
        data.feature_dim,
        data.text_dim,
    )
    made = vae_stage(generator, data)
    steps = Loop(0, 2, 1e9, Workers(), SavedProgress(generator, tmp_path, {}), Log(tmp_path), lambda *_: None)
    start = {k: v.clone() for k, v in generator.state_dict().items()}
    gradients = []
    for micro_batch in range(2):
        generator.load_state_dict(start)
        torch.manual_seed(loop.seed_of(0, "vae", 0, micro_batch))
        generator.zero_grad()
        torch.stack(list(made.losses(0).values())).sum().backward()
        gradients.append([None if p.grad is None else p.grad.clone() for p in made.parameters])
    made.extra.take_seen()
    seen: list[list[torch.Tensor | None]] = []
    one = replace(made, steps=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch.nn.utils,
            "clip_grad_norm_",
            lambda parameters, _: seen.append([None if p.grad is None else p.grad.clone() for p in parameters]),
        )
        steps.run("vae", lambda: one)
    for first, second, both in zip(*gradients, seen[0], strict=True):
        alone = [g for g in (first, second) if g is not None]
        assert (both is None) == (not alone)
        if both is not None:
            assert torch.allclose(both, sum(alone) / 2, atol=1e-6)


@pytest.mark.slow
def test_bfloat16_trains(zoo: Zoo, tmp_path: Path) -> None:
    made = train(zoo, SHORT.model_copy(update={"precision": "bfloat16"}), tmp_path / "g")
    assert all(torch.isfinite(tensor).all() for tensor in made.state_dict().values())
    assert {tensor.dtype for tensor in made.state_dict().values() if tensor.is_floating_point()} == {torch.float32}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_trains(zoo: Zoo, tmp_path: Path) -> None:
    made = train(zoo, SHORT.model_copy(update={"device": "cuda"}), tmp_path / "g")
    assert {tensor.device.type for tensor in made.state_dict().values()} == {"cpu"}
    assert made.provenance.metrics["device"] == "cuda"
    assert torch.isfinite(Generator.from_pretrained(tmp_path / "g").codes).all()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(zoo: Zoo, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="generator.device is cuda\ntorch finds no GPU here\nSet it to auto or cpu."):
        train(zoo, SHORT.model_copy(update={"device": "cuda"}), tmp_path / "g")


@pytest.mark.parametrize(("micro_batches", "count"), [(1, 2), (4, 3), (2, 0)])
def test_workers_that_cannot_share_a_step(micro_batches: int, count: int) -> None:
    message = f"{count} workers cannot share a step of {micro_batches} micro-batches\nevery worker takes"
    with pytest.raises(BadInput, match=message):
        check_workers(GeneratorConfig(accumulate=micro_batches), count)


def test_micro_batches_are_divided_among_workers() -> None:
    for count in (1, 2, 3, 6):
        shares = [i for rank in range(count) for i in Workers(rank, count).micro_batches(6)]
        assert shares == list(range(6))


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
