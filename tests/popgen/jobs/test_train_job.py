"""`popgen train` on a tiny zoo: one file in, a generator out; interrupted it goes on, changed it says so."""

from __future__ import annotations

import _thread
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from popgen.configs.load import load, parse
from popgen.configs.spec import SpecFile
from popgen.errors import CannotResume
from popgen.generator import Generator, GeneratorConfig
from popgen.generator.training import train_generator
from popgen.zoo import Zoo, build_zoo

SPEC = """
zoo:
  name: tiny
  archs: [mlp-s, cnn-s]
  data: [digits, digits/invert]
  seeds: [0, 1, 2]
  held_out: {seeds: [2]}
  recipe: {epochs: 2}
generator:
  vae: {steps: 150, gate: 1.0, width: 32, heads: 2, behaviour_networks: 2}
  encoders: {steps: 12, width: 32, heads: 2}
  prior: {steps: 12, width: 32, heads: 2, layers: 1}
  tune: {steps: 6}
  describe: {steps: 6}
  restore: {steps: 6, networks: 2}
"""
STAGES = ["vae", "data set encoder", "prior", "tuning", "descriptions", "restoring"]


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("train") / "tiny.yaml"
    file.write_text(SPEC)
    return file


@pytest.fixture(scope="module")
def zoo(spec: Path) -> Zoo:
    return build_zoo(load(spec, SpecFile).zoo, spec.parent / "zoo", workers=0)


@pytest.fixture(scope="module")
def trained(popgen: Any, spec: Path, zoo: Zoo) -> tuple[Path, dict[str, Any]]:
    """A generator that was trained without a break, and what the command printed."""
    folder = spec.parent / "generator"
    return folder, popgen("train", spec, "--zoo", zoo.folder, "--out", folder, "--json").json


def settings(**changes: Any) -> GeneratorConfig:
    return parse({**yaml.safe_load(SPEC)["generator"], **changes}, GeneratorConfig, "test")


def stop_in(stage: str) -> Any:
    def on_step(name: str, step: int, steps: int, _: dict[str, float]) -> None:
        if name == stage and step == steps // 2:
            raise KeyboardInterrupt

    return on_step


def test_a_generator_is_written_and_reported(trained: tuple[Path, dict[str, Any]], zoo: Zoo) -> None:
    folder, printed = trained
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "config.json",
        "codes.json",
        "texts.json",
        "model.safetensors",
        "log",
    }
    assert printed["generator"] == str(folder)
    assert set(printed["retrieval"]) == {"mlp-s", "cnn-s"}
    for row in printed["retrieval"].values():
        assert set(row) == {f"{a}_{b}" for a in ("train", "held_out") for b in ("original", "decoded")}
        assert 0.1 < row["train_original"] <= 1
    made = Generator.from_pretrained(folder)
    assert made.provenance.metrics["retrieval"] == printed["retrieval"]
    assert (made.provenance.zoo, made.provenance.zoo_sha256) == ("tiny", zoo.sha256)
    assert sorted(code.id for code in made.records) == sorted(r.id for r in zoo.select(held_out=False))
    assert made.codes.shape == (8, 4, 8)
    assert json.loads((folder / "config.json").read_text())["generator"]["vae"]["steps"] == 150
    assert made.provenance.metrics["remarks"] == printed["remarks"]
    assert (
        "The generator's folder has" in printed["remarks"][-1]
    )  # eight networks are far fewer than its own parameters


def test_what_is_done_is_said_from_the_first_data_set_on(zoo: Zoo, tmp_path: Path) -> None:
    said: list[tuple[int, int]] = []

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_generator(zoo, settings(), tmp_path, stop, on_data=lambda *done: said.append(done))
    assert said == [(0, 2), (1, 2), (2, 2)]


def test_its_decoder_has_learned_the_zoo(trained: tuple[Path, dict[str, Any]], zoo: Zoo) -> None:
    """150 steps are few, but what is decoded must point from the mean network to its own original."""
    made = Generator.from_pretrained(trained[0])
    originals = zoo.matrix(zoo.select(arch="mlp-s", held_out=False))
    decoded = made.decode("mlp-s", made.encode("mlp-s", originals))
    x, y = (made.scalings["mlp-s"].normalise(weights) for weights in (originals, decoded))
    cosines = torch.nn.functional.cosine_similarity((y - x.mean(0))[:, None], (x - x.mean(0))[None], dim=2)
    others = cosines[~torch.eye(len(x), dtype=torch.bool)]
    assert cosines.diag().mean() > others.mean() + 0.3, cosines


def test_a_search_runs_on_it(popgen: Any, trained: tuple[Path, dict[str, Any]], zoo: Zoo, tmp_path: Path) -> None:
    command = ("search", "--arch", "mlp-s", "--data", "digits/blur", "--generator", trained[0], "--zoo", zoo.folder)
    options = ("--evaluations", 40, "--workers", 0, "--head", "refit", "--out", tmp_path / "run", "--json")
    rows = {row["name"]: row for row in popgen(*command, *options).results[0]["rows"]}
    assert rows["best_zoo"]["evaluations"] == 4
    assert rows["search"]["test_accuracy"] > 0.6


@pytest.mark.slow  # ten seconds for each stage; the tests of popgen.generator.training have a smaller form of it
@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupted_training_gives_the_same_tensors(
    trained: tuple[Path, dict[str, Any]], zoo: Zoo, tmp_path: Path, stage: str
) -> None:
    out = tmp_path / "generator"
    with pytest.raises(KeyboardInterrupt):
        train_generator(zoo, settings(), out, stop_in(stage))
    assert not (out / "config.json").exists()
    seen: list[str] = []
    train_generator(zoo, settings(), out, lambda name, *_: seen.append(name))
    assert list(dict.fromkeys(seen)) == STAGES[STAGES.index(stage) :], "finished stages are not done again"
    assert {path.name for path in out.iterdir()} == {
        "README.md",
        "config.json",
        "codes.json",
        "texts.json",
        "model.safetensors",
        "log",
    }
    ours, whole = (load_file(folder / "model.safetensors") for folder in (out, trained[0]))
    assert ours.keys() == whole.keys()
    assert [name for name in whole if not torch.equal(ours[name], whole[name])] == []
    assert (out / "codes.json").read_text() == (trained[0] / "codes.json").read_text()


@pytest.mark.slow
def test_an_interrupted_training_refuses_other_settings(zoo: Zoo, tmp_path: Path) -> None:
    out = tmp_path / "generator"
    with pytest.raises(KeyboardInterrupt):
        train_generator(zoo, settings(), out, stop_in("data set encoder"))
    with pytest.raises(CannotResume) as refused:
        train_generator(zoo, settings(seed=1), out, stop_in("vae"))
    assert refused.value.exit_code == 7
    assert "another config" in str(refused.value) and str(out / "unfinished") in refused.value.todo
    with pytest.raises(KeyboardInterrupt):  # the settings restored, it goes on: the first stage is not done again
        train_generator(zoo, settings(), out, stop_in("prior"))


@pytest.mark.slow
def test_the_command_goes_on_after_an_interruption(popgen: Any, spec: Path, zoo: Zoo, tmp_path: Path) -> None:
    out = tmp_path / "generator"
    with pytest.raises(KeyboardInterrupt):
        train_generator(zoo, settings(), out, stop_in("prior"))
    command = ("train", spec, "--zoo", zoo.folder, "--out", out)
    called = popgen(*command, "--set", "generator.prior.steps=13", code=7)
    assert "holds an interrupted training with another config" in called.err
    text = popgen(*command).out
    assert "mean validation accuracy" in text and "mlp-s" in text and f"generator: {out}" in text


def test_ctrl_c_stops_the_command(popgen: Any, spec: Path, zoo: Zoo, tmp_path: Path) -> None:
    timer = threading.Timer(2, _thread.interrupt_main)
    timer.start()
    command = ("train", spec, "--zoo", zoo.folder, "--out", tmp_path / "generator")
    called = popgen(*command, "--set", "generator.vae.steps=1000000", code=130)
    timer.join()
    assert "stopped" in called.err and called.out == ""
    assert not (tmp_path / "generator" / "config.json").exists()


def test_a_generator_is_never_overwritten(popgen: Any, trained: tuple[Path, dict[str, Any]], spec: Path) -> None:
    before = (trained[0] / "model.safetensors").read_bytes()
    called = popgen("train", spec, "--out", trained[0], code=4)
    assert "holds a generator already" in called.err and "--out" in called.err
    assert (trained[0] / "model.safetensors").read_bytes() == before


def test_the_gate_refuses_lossy_latents(popgen: Any, spec: Path, zoo: Zoo, tmp_path: Path) -> None:
    command = ("train", spec, "--zoo", zoo.folder, "--out", tmp_path / "generator")
    called = popgen(*command, "--set", "generator.vae.gate=1e-9", "--set", "generator.vae.steps=1", code=7)
    assert "the VAE loses" in called.err and "generator.vae.gate" in called.err
    assert not (tmp_path / "generator" / "config.json").exists()


def test_dry_run_prints_the_settings(popgen: Any, spec: Path, here: Path) -> None:
    facts = popgen("train", spec, "--dry-run", "--set", "generator.prior.kind=ddpm", "--set", "generator.seed=5").json
    assert facts["zoo"] == "tiny"
    assert (facts["generator"]["prior"]["kind"], facts["generator"]["seed"]) == ("ddpm", 5)
    assert facts["generator"]["vae"]["steps"] == 150
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "pieces"),
    [
        ("generator.vea.steps=1", ["generator: vea is not a known key", "vae"]),
        ("generator.vae.stepz=1", ["vae.stepz is not a known key", "steps"]),
        ("generator.prior.kind=flaw", ["prior.kind", "'flaw'", "flow"]),
        ("generator.vae.steps=many", ["vae.steps", "'many'"]),
        ("zoo.archs=[]", ["zoo does not fit", "a zoo has archs and data"]),
    ],
)
def test_keys_and_values_that_do_not_fit(popgen: Any, spec: Path, here: Path, key: str, pieces: list[str]) -> None:
    called = popgen("train", spec, "--set", key, code=4)
    assert "error: " in called.err and all(piece in called.err for piece in pieces), called.err
    assert list(here.iterdir()) == []
