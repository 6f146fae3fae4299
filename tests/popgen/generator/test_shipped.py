"""The built-in zoo and generator: small, complete, without the held-out rotations, and as good as the README says."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch

from popgen.configs.load import load, parse
from popgen.configs.spec import SpecFile, ZooSpec
from popgen.data import load_data
from popgen.generator import Generator, GeneratorConfig
from popgen.networks.forward import task_score
from popgen.refs import ASSETS
from popgen.zoo import Checkpoint, Zoo

SPEC = Path(__file__).parents[3] / "zoo_specs" / "digits.yaml"
HELD_OUT_ANGLES = {45.0, 135.0, 225.0, 315.0}
ARCHS = ["mlp-s", "cnn-s", "cnn-m", "resnet-s"]


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    return Zoo.open("digits")


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator.from_pretrained("digits")


def is_held_out(data: str) -> bool:
    """Whether a name asks for a held-out rotation, also as -45 or 405 degrees or as two rotations."""
    turns = [float(angle) for angle in re.findall(r"rotate:(-?[\d.]+)", data)]
    return sum(turns) % 360 in HELD_OUT_ANGLES


def test_the_guard_knows_a_held_out_rotation() -> None:
    assert (
        is_held_out("digits/rotate:45") and is_held_out("digits/rotate:-45/blur") and is_held_out("digits/rotate:225.0")
    )
    assert not is_held_out("digits/rotate:30") and not is_held_out("digits/blur") and not is_held_out("digits")


def test_packaged_data_are_small() -> None:
    size = sum(path.stat().st_size for path in [*ASSETS.rglob("*"), SPEC] if path.is_file())
    assert size < 32_000_000
    kinds = {path.suffix for path in ASSETS.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert kinds <= {".safetensors", ".json", ".jsonl", ".yaml", ".md"}, "nothing is pickled"


def test_the_zoo_is_whole(zoo: Zoo) -> None:
    assert zoo.verify() == []
    assert sorted(zoo.archs) == sorted(ARCHS)
    assert {(r.arch, r.data, r.seed) for r in zoo.records} == {
        (a, d, s) for a in ARCHS for d in zoo.data for s in (0, 1, 2)
    }
    variants = [name for name in zoo.data if "rotate" not in name]
    assert len(zoo.data) - len(variants) == 20 and len(variants) >= 4
    assert all(record.licence and record.sha256 and record.metrics for record in zoo.records)


def test_the_held_out_rotations_are_nowhere(zoo: Zoo, generator: Generator) -> None:
    assert [r.id for r in zoo.records if is_held_out(r.data) or is_held_out(r.id)] == []
    assert [code.id for code in generator.records if is_held_out(code.data) or is_held_out(code.id)] == []
    assert [name for name in generator.provenance.data if is_held_out(name)] == []
    spec = load(SPEC, SpecFile).zoo
    assert [name for name in spec.data_names if is_held_out(name)] == []


def test_held_out_seeds_are_not_in_the_generator(zoo: Zoo, generator: Generator) -> None:
    held_out = {r.id for r in zoo.select(held_out=True)}
    assert held_out == {r.id for r in zoo.records if r.seed == 2}
    assert {code.id for code in generator.records} == {r.id for r in zoo.records} - held_out
    assert generator.codes.shape == (len(generator.records), *generator.latent_shape)


def test_the_generator_was_trained_on_this_zoo(zoo: Zoo, generator: Generator) -> None:
    assert (generator.provenance.zoo, generator.provenance.zoo_sha256) == ("digits", zoo.sha256)
    assert generator.provenance.classes == list("0123456789")


def test_the_shipped_files_were_made_from_the_spec(zoo: Zoo, generator: Generator) -> None:
    """If a default has changed since the generator was trained, train it again or write the old value into the spec."""
    spec = load(SPEC, SpecFile)
    assert parse(zoo.info["spec"], ZooSpec, "zoo.json").model_dump() == spec.zoo.model_dump()
    assert parse(spec.generator or {}, GeneratorConfig, str(SPEC)) == generator.config
    assert generator.provenance.metrics["seconds"] < 45 * 60


def lost_points(generator: Generator, zoo: Zoo, arch: str, records: list[Checkpoint]) -> float:
    """Mean test accuracy that checkpoints lose when they are restored from their codes, in percentage points."""
    spec, weights = generator.spec(arch), zoo.matrix(records)
    latents = generator.encode(arch, weights)
    decoded = generator.restore(arch, latents, generator.residual(arch, weights, latents))
    assert not torch.equal(decoded, weights)
    tests = [load_data(record.data) for record in records]
    before, after = (
        [task_score(spec, w, t, "test") for w, t in zip(rows, tests, strict=True)] for rows in (weights, decoded)
    )
    assert mean(before) > 0.85
    assert before == pytest.approx([record.metrics["test_accuracy"] for record in records], abs=1e-4)
    return 100 * (mean(before) - mean(after))


@pytest.mark.parametrize(("held_out", "allowed"), [(False, 0.5), (True, 1.0)], ids=["training", "held-out seeds"])
def test_retrieval(generator: Generator, zoo: Zoo, held_out: bool, allowed: float) -> None:
    losses = []
    for arch in ARCHS:
        records = sorted(zoo.select(arch=arch, held_out=held_out), key=lambda r: r.id)
        pick = torch.linspace(0, len(records) - 1, 10).long().tolist()
        losses.append(lost_points(generator, zoo, arch, [records[i] for i in pick]))
    assert mean(losses) < allowed, dict(zip(ARCHS, losses, strict=True))


def test_stored_codes_are_the_latents_of_their_checkpoints(generator: Generator, zoo: Zoo) -> None:
    for arch in ARCHS:
        code, latent = generator.stored(arch, "digits/rotate:30")[0]
        again = generator.encode(arch, zoo.matrix([zoo.record(code.id)]))[0]
        assert torch.allclose(again, latent, atol=0.05), (again - latent).abs().max()


@pytest.mark.parametrize("arch", ARCHS)
def test_networks_for_rotations_that_were_held_out(generator: Generator, arch: str) -> None:
    """Sampled networks are right for rotations without images in training, and wrong under a shuffled condition."""
    scores: dict[str | None, list[float]] = {None: [], "shuffled": []}
    for angle in sorted(HELD_OUT_ANGLES):
        data = load_data(f"digits/rotate:{angle:g}")
        for control in (None, "shuffled"):
            flats = generator.decode(arch, generator.sample(arch, data, 5, control=control))
            scores[control].append(mean(task_score(generator.spec(arch), flat, data, "test") for flat in flats))
    assert mean(scores[None]) > 0.87
    assert mean(scores["shuffled"]) < mean(scores[None]) - 0.3


@pytest.mark.parametrize(("arch", "data"), [("cnn-s", "digits/rotate:135"), ("mlp-s", "digits/rotate:315")])
def test_a_search_beats_the_zoo_on_a_held_out_rotation(popgen: Any, tmp_path: Path, arch: str, data: str) -> None:
    command = ("search", "--arch", arch, "--data", data, "--head", "keep", "--evaluations", 150, "--workers", 0)
    found = popgen(*command, "--out", tmp_path / "run", "--json").results[0]
    rows = {row["name"]: row["test_accuracy"] for row in found["rows"]}
    assert rows["search"] > rows["best_zoo"] + 0.02
    assert rows["search"] > 0.85 and rows["generated_best"] > rows["random"] + 0.4
