"""`popgen adapt`: the job and the command, on a tiny generator of shifts of the digits."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file

import popgen
from popgen.archs import ArchSpec
from popgen.cli import cli
from popgen.configs.generator import GeneratorConfig
from popgen.configs.spec import ZooSpec
from popgen.data import load_data
from popgen.errors import BadInput, NotFound
from popgen.generator.training.train import train_generator
from popgen.networks.forward import task_score
from popgen.zoo import build_zoo

ARCH = "resnet-s"
TINY = {
    "encoders": {
        "images": "clip-tiny+statistics",
        "labels": False,
        "images_per_class": 32,
        "width": 16,
        "out": 8,
        "steps": 2,
    },
    "vae": {"latent_tokens": 2, "latent_width": 4, "width": 16, "steps": 2, "gate": 9, "behaviour_networks": 1},
    "prior": {"kind": "flow", "width": 16, "layers": 1, "steps": 2, "batch": 4, "sampling": {"steps": 2}},
    "tune": {"steps": 2, "networks": 2, "fewer_classes": 0},
    "describe": {"steps": 0},
    "restore": {"steps": 0, "rank": 1},
}


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A generator whose zoo starts from a network on digits, made robust against inverted ones."""
    root = tmp_path_factory.mktemp("adapt")

    def built(name: str, data: list[str], start: int | str, **recipe: object) -> str:
        spec = ZooSpec(name=name, archs=[ARCH], data=data, start=start, recipe={"epochs": 3, **recipe}, workers=0)
        build_zoo(spec, root / name, progress=False)
        return f"{root / name}#{ARCH}/digits/s0"

    base = built("base", ["digits"], 0, epochs=12)
    robust = built("robust", ["digits"], base, variants=["invert"], batch_norm="frozen")
    built("shifts", ["digits", "digits/invert"], base, epochs=1)
    zoo = popgen.Zoo.open(root / "shifts")
    train_generator(
        zoo, GeneratorConfig.model_validate({**TINY, "robust": [robust]}), root / "generator", lambda *_: None
    )
    return str(root / "generator")


def test_a_table_of_rivals_and_the_weights_of_the_choice(generator: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    zoo = str(Path(generator).parent / "shifts")
    made = popgen.adapt(ARCH, "digits/invert", out, generator=generator, zoo=zoo, tent=1, eta=2, images=200)
    names = [row.name for row in made.rows]
    assert names == [
        "best zoo",
        "base",
        "base + TENT",
        "base + ETA",
        "AdaBN",
        "BN mix",
        "robust",
        "robust + TENT",
        "robust + ETA",
        "WiSE + BN mix",
        "line + BN mix",
        "line, middle",
        "generated",
        "generated + BN mix",
        "chosen + TENT",
        "chosen + ETA",
        "chosen",
    ]
    spec, data = ArchSpec.from_config(ARCH), load_data("digits/invert")
    chosen = made.rows[-1]
    assert chosen.what == made.chosen == made.best and made.gain > made.error and not made.is_base
    assert made.rows[0].what in ("resnet-s/digits/s0", "resnet-s/digits/invert/s0")
    flat = spec.to_flat(load_file(made.weights))
    assert chosen.val_accuracy == pytest.approx(task_score(spec, flat, data), abs=1e-6)
    assert chosen.test_accuracy == pytest.approx(task_score(spec, flat, data, "test"), abs=1e-6)
    assert chosen.test_accuracy > made.rows[1].test_accuracy + 0.1
    plain = [row.information for row in made.rows if not row.name.endswith(("TENT", "ETA", "zoo"))]
    assert max(plain) == pytest.approx(chosen.information, abs=0.1)
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == json.loads(json.dumps(made.to_json()))
    passes = {row.name: row.passes for row in made.rows}
    n, m = 200, min(200, len(data.val))
    assert passes["base"] == passes["robust"] == 0 and passes["AdaBN"] == n and passes["best zoo"] == 2 * m
    assert passes["BN mix"] == n + 5 * m and passes["base + TENT"] == 4 * n and passes["base + ETA"] == 7 * n
    assert passes["chosen"] == 17 * n + 85 * m + 3 * (n + m) and passes["chosen + ETA"] == passes["chosen"] + 7 * n
    with pytest.raises(BadInput, match="is not an empty folder"):
        popgen.adapt(ARCH, "digits/invert", out, generator=generator)


def test_the_chosen_network_is_finished_by_gradients(generator: str, tmp_path: Path) -> None:
    plain = popgen.adapt(ARCH, "digits/blur:0.6", str(tmp_path / "a"), generator=generator, images=200, tent=5)
    made = popgen.adapt(ARCH, "digits/blur:0.6", str(tmp_path / "b"), generator=generator, images=200, finish="tent:5")
    assert plain.best == plain.chosen == made.best and made.chosen == f"{made.best}, 5 epochs of TENT"
    tented = next(row for row in plain.rows if row.name == "chosen + TENT")
    assert made.rows[-1] == dataclasses.replace(tented, name="chosen")
    worse = popgen.adapt(ARCH, "digits/invert", str(tmp_path / "f"), generator=generator, images=200, finish="tent:2")
    assert worse.chosen == worse.best, "re-estimated statistics make the robust network less informative here"
    stream = popgen.adapt(ARCH, "digits/blur:0.6", str(tmp_path / "c"), generator=generator, batch=250, finish="tent:5")
    assert [one.chosen.endswith(", 5 epochs of TENT") for one in stream.batches] == [True, True]
    kept = popgen.adapt(ARCH, "digits", str(tmp_path / "d"), generator=generator, images=60, seed=1, finish="tent")
    assert kept.is_base and kept.chosen == "base, batch norm 0"
    with pytest.raises(BadInput, match="--finish ten names no entropy minimisation"):
        popgen.adapt(ARCH, "digits", str(tmp_path / "e"), generator=generator, finish="ten")


def test_the_base_comes_back_without_evidence(generator: str, tmp_path: Path) -> None:
    """The base is made for these images: what else is a little more informative is so within the error."""
    made = popgen.adapt(ARCH, "digits", str(tmp_path), generator=generator, images=60, seed=1)
    assert made.chosen == "base, batch norm 0" != made.best and made.is_base
    assert made.gain < made.error and made.why_base == "that is not above its standard error"
    base = popgen.Generator.from_pretrained(generator).bases[ARCH]
    assert torch.equal(ArchSpec.from_config(ARCH).to_flat(load_file(made.weights)), base)


def photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number, image in enumerate(load_data("digits/invert").test.inputs[:count]):
        Image.fromarray((image[0] * 255).byte().numpy()).save(folder / f"{number:03d}.png")
    return folder


def test_a_flat_folder_has_no_accuracies(generator: str, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", 40)
    arguments = ["adapt", "--arch", ARCH, "--data", f"folder:{folder}", "--generator", generator]
    done = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "out")], catch_exceptions=False)
    assert "images read: 40, without labels" in done.stderr
    assert "AdaBN" in done.stdout and "weights: " in done.stdout
    assert "networks: 85 of 85" in done.stderr
    assert "no row for the best network of the zoo 'shifts', which is not here; --zoo names its folder" in done.stderr
    assert "chosen: " in done.stdout or "the base is kept" in done.stdout
    done = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "again"), "--json"], catch_exceptions=False)
    rows = json.loads(done.stdout)["rows"]
    assert {row["val_accuracy"] for row in rows} == {row["test_accuracy"] for row in rows} == {None}


def test_a_stream_has_a_choice_a_batch(generator: str, tmp_path: Path) -> None:
    made = popgen.adapt(ARCH, "digits/invert", str(tmp_path / "a"), generator=generator, batch=124)
    assert [(one.first, one.count) for one in made.batches] == [(0, 124), (124, 124), (248, 124), (372, 125)]
    data = load_data("digits/invert").test
    for one in made.batches:
        right = torch.tensor(one.predicted) == data.targets[one.first : one.first + one.count]
        assert one.accuracy == pytest.approx(float(right.float().mean()))
    folder = photos(tmp_path / "photos", 31)
    arguments = ["adapt", "--arch", ARCH, "--data", f"folder:{folder}", "--generator", generator, "--batch", "15"]
    done = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "b")], catch_exceptions=False)
    assert "batches: 2 of 2" in done.stderr
    assert made.chosen is made.gain is None, "each batch has its own"
    assert not (tmp_path / "b" / "weights.safetensors").exists()
    batches = json.loads((tmp_path / "b" / "result.json").read_text())["batches"]
    assert [one["count"] for one in batches] == [15, 16] and batches[0]["accuracy"] is None


def test_the_script_that_compares_over_data_sets(generator: str) -> None:
    script = Path(__file__).parents[3] / "examples" / "bench" / "adapt.py"
    arguments = [
        "--generator",
        generator,
        "--arch",
        ARCH,
        "--data",
        "digits/invert,digits",
        "--images",
        "80",
        "--tent",
        "0",
    ]
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, timeout=300, check=True)
    assert re.search(r"/generator, digits/invert: base 0\.\d+, AdaBN .*chosen 0\.\d+\n", done.stdout)
    gain = r"chosen \+0\.0000 ± 0\.0000, lowest gain [+-]0\.\d{4}"
    assert re.search(rf"chosen +mean 0\.\d{{4}} \(0\.\d{{3}}\), {gain}\n$", done.stdout)


def test_images_of_one_class_give_the_base_back(generator: str, tmp_path: Path) -> None:
    data, folder = load_data("digits").test, tmp_path / "zeros"
    folder.mkdir()
    for number, image in enumerate(data.inputs[data.targets == 0][:20]):
        Image.fromarray((image[0] * 255).byte().numpy()).save(folder / f"{number:03d}.png")
    made = popgen.adapt(ARCH, f"folder:{folder}", str(tmp_path / "out"), generator=generator)
    assert made.is_base and made.classes < 5
    arguments = ["adapt", "--arch", ARCH, "--data", f"folder:{folder}", "--generator", generator]
    done = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "again")], catch_exceptions=False)
    text = " ".join(done.stdout.split())
    assert re.search(
        r"the base is kept: .*the predictions use about [1-4]\.\d of 10 classes, and the choice takes", text
    )


def test_what_cannot_be_adapted(generator: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the generator 'digits' has no base of 'cnn-s'\nits zoo does not start from"):
        popgen.adapt("cnn-s", "digits", str(tmp_path / "a"), generator="digits")
    with pytest.raises(NotFound, match="cnn-s"):
        popgen.adapt("cnn-s", "digits", str(tmp_path / "a"), generator=generator)
    photos(tmp_path / "one", 1)
    with pytest.raises(BadInput, match="has 1 images"):
        popgen.adapt(ARCH, f"folder:{tmp_path / 'one'}", str(tmp_path / "a"), generator=generator)
    said: list[str] = []
    from popgen.configs.adapt import AdaptConfig
    from popgen.jobs.adapt import adapt

    config = AdaptConfig(arch=ARCH, data="digits/classes:3+5", generator=generator, images=30)
    made = adapt(config, str(tmp_path / "b"), said.append)
    assert any("its classes are not the network's (0, 1, 2, 3, 4, ...); labels are not used" in line for line in said)
    assert made.rows[0].test_accuracy is None
