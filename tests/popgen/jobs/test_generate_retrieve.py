"""`popgen generate` writes populations, `popgen retrieve` gives checkpoints back; neither needs the zoo."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from popgen import retrieve as retrieve_function
from popgen.adaptation.entropy import EntropySteps, minimise_entropy
from popgen.archs import ArchSpec, build
from popgen.data import load_data
from popgen.refs import ASSETS

DATA = ("--data", "digits/rotate:45")


@pytest.mark.usefixtures("here")
def test_a_population_is_written_and_loads(popgen: Any) -> None:
    called = popgen("generate", "--arch", "cnn-s,resnet-s", *DATA, "-n", 3, "--out", "made", "--json")
    made = called.json["networks"]
    assert [(one["arch"], one["index"]) for one in made] == [(a, i) for a in ("cnn-s", "resnet-s") for i in range(3)]
    val = load_data("digits/rotate:45").val
    for one in made:
        net = build(one["arch"]).eval()
        net.load_state_dict(load_file(one["weights"]), strict=True)
        with torch.no_grad():
            right = (net(val.inputs).argmax(1) == val.targets).sum()
        assert int(right) == pytest.approx(one["val_accuracy"] * len(val), abs=1e-3)
        assert one["val_accuracy"] > 0.6  # far above guessing, on a rotation that no network was trained on
    assert len({one["val_accuracy"] for one in made}) > 2
    latents = load_file("made/cnn-s/latents.safetensors")["latents"]
    assert latents.shape[0] == 3 and not torch.equal(latents[0], latents[1])


@pytest.mark.usefixtures("here")
def test_a_seed_makes_one_population(popgen: Any) -> None:
    for folder, seed in (("a", 7), ("b", 7), ("c", 8)):
        popgen("generate", "--arch", "mlp-s", *DATA, "-n", 2, "--seed", seed, "--out", folder)
    a, b, c = (load_file(f"{folder}/mlp-s/01.safetensors") for folder in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not any(torch.equal(a[name], c[name]) for name in a)


@pytest.mark.usefixtures("here")
def test_a_description_stands_for_a_data_set(popgen: Any) -> None:
    words = ("generate", "--arch", "mlp-s", "-n", 3, "--describe")
    alone = popgen(*words, "digits, rotated by 90 degrees", "--out", "a", "--json").json["networks"]
    assert [one["val_accuracy"] for one in alone] == [None] * 3
    scored = popgen(*words, "digits, rotated by 90 degrees", "--data", "digits/rotate:90", "--out", "b", "--json")
    assert all(one["val_accuracy"] > 0.6 for one in scored.json["networks"])
    a, b = (load_file(f"{folder}/mlp-s/00.safetensors") for folder in "ab")
    assert all(torch.equal(a[name], b[name]) for name in a)
    other = popgen(*words, "digits, rotated by 270 degrees", "--data", "digits/rotate:90", "--out", "c", "--json")
    assert all(one["val_accuracy"] < 0.5 for one in other.json["networks"])


@pytest.mark.parametrize("prior", ["ridge", "kde"])
@pytest.mark.usefixtures("here")
def test_a_cheap_prior_can_be_asked_for(popgen: Any, prior: str) -> None:
    command = ("generate", "--arch", "mlp-s", "--data", "digits/rotate:90", "-n", 3, "--json")
    made = popgen(*command, "--prior", prior, "--out", "a").json["networks"]
    assert all(one["val_accuracy"] > 0.6 for one in made)
    popgen(*command, "--prior", "network", "--out", "b")
    a, b = (load_file(f"{folder}/mlp-s/00.safetensors") for folder in "ab")
    assert not any(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow  # workers import torch
@pytest.mark.usefixtures("here")
def test_a_cluster_makes_the_same_files(popgen: Any, own_generator: Path, ray_cluster: str) -> None:
    command = ("generate", "--arch", "cnn-s,mlp-s", *DATA, "-n", 3, "--generator", own_generator.name, "--json")
    alone = popgen(*command, "--out", "alone").json["networks"]
    together = popgen(*command, "--out", "together", "--address", ray_cluster).json["networks"]
    for one in (*together, *alone):  # paths differ, and so do measured seconds
        one["weights"], one["family"]["training"] = "", None
    assert together == alone
    files = [file.relative_to("alone") for file in Path("alone").rglob("*.safetensors")]
    assert len(files) == 2 * (3 + 1) == len(list(Path("together").rglob("*.safetensors")))
    for file in files:
        assert header_and_tensors("together" / file) == header_and_tensors("alone" / file)


def header_and_tensors(file: Path) -> tuple[Any, bytes]:
    """All of a safetensors file but for the order of its metadata, which changes with every writing."""
    content = file.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


@pytest.mark.slow  # Ray is stopped and started again; searches have a quick test of it
@pytest.mark.usefixtures("no_ray")
def test_a_cluster_that_is_not_there(popgen: Any, here: Path) -> None:
    called = popgen("generate", "--arch", "mlp-s", *DATA, "--address", "127.0.0.1:1", code=1)
    assert "there is no Ray cluster at 127.0.0.1:1" in called.err and list(here.iterdir()) == []


def test_a_folder_with_files_is_refused(popgen: Any, here: Path) -> None:
    (here / "made").mkdir()
    (here / "made" / "notes.txt").write_text("mine")
    assert "made is not an empty folder" in popgen("generate", "--arch", "mlp-s", *DATA, "--out", "made", code=4).err
    assert [path.name for path in (here / "made").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("arch", ["mlp-s", "cnn-s", "cnn-m", "resnet-s"])
@pytest.mark.usefixtures("here")
def test_a_checkpoint_comes_back(popgen: Any, arch: str) -> None:
    got = popgen("retrieve", "--arch", arch, "--data", "digits/rotate:30", "--json").json
    assert (got["arch"], got["data"], got["id"]) == (
        arch,
        "digits/rotate:30",
        f"{arch}/digits/rotate:30/s{got['seed']}",
    )
    assert got["original_test_accuracy"] > 0.9
    assert abs(got["test_accuracy"] - got["original_test_accuracy"]) < 0.04
    net, test = build(arch).eval(), load_data("digits/rotate:30").test
    net.load_state_dict(load_file(got["weights"]), strict=True)
    with torch.no_grad():
        right = (net(test.inputs).argmax(1) == test.targets).sum()
    assert int(right) == pytest.approx(got["test_accuracy"] * len(test), abs=1e-3)


@pytest.mark.usefixtures("here")
def test_a_seed_chooses_the_checkpoint(popgen: Any) -> None:
    command = ("retrieve", "--arch", "mlp-s", "--data", "digits/invert", "--json")
    each = [popgen(*command, "--seed", seed, "--out", f"{seed}.safetensors").json for seed in (0, 1)]
    assert [got["id"] for got in each] == ["mlp-s/digits/invert/s0", "mlp-s/digits/invert/s1"]
    best = popgen(*command).json
    assert best["original_val_accuracy"] == max(got["original_val_accuracy"] for got in each)
    text = popgen("retrieve", "--arch", "mlp-s", "--data", "digits/invert").out
    assert "mlp-s-digits-invert.safetensors" in text and f"{best['original_test_accuracy']:.3f}" in text


@pytest.mark.parametrize(
    ("data", "extra", "pieces"),
    [
        ("digits/rotate:45", (), ["no mlp-s checkpoint for 'digits/rotate:45'", "popgen search --arch mlp-s"]),
        ("digits/rotate:301", (), ["nearest known data sets: ", "digits/rotate:30", "popgen search"]),
        ("digits/blurr", (), ["digits/blur"]),
        ("digits/rotate:30", ("--seed", 2), ["with seed 2"]),  # held out of the generator
    ],
)
def test_what_the_generator_does_not_hold(
    popgen: Any, here: Path, data: str, extra: tuple[object, ...], pieces: list[str]
) -> None:
    called = popgen("retrieve", "--arch", "mlp-s", "--data", data, *extra, code=3)
    assert all(piece in called.err for piece in pieces), called.err
    assert list(here.iterdir()) == []


def test_no_zoo_is_needed(
    popgen: Any, here: Path, own_generator: Path, edit_json: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The packaged data without its zoos, and a generator whose zoo is nowhere."""
    command = ("retrieve", "--arch", "cnn-s", "--data", "digits/rotate:0", "--json")
    before = popgen(*command).json
    bare = here / "assets"
    shutil.copytree(ASSETS / "encoders", bare / "encoders")
    monkeypatch.setattr("popgen.refs.ASSETS", bare)
    edit_json(own_generator / "config.json", lambda content: content["provenance"].update(zoo="far-away"))
    after = popgen(*command, "--generator", own_generator).json
    assert after == before
    assert "there is no zoo 'digits'" in popgen("zoo", "list", "digits", code=3).err
    made = popgen("generate", "--arch", "cnn-s", *DATA, "-n", 1, "--generator", own_generator, "--json").json
    assert made["networks"][0]["val_accuracy"] > 0.6


@pytest.mark.usefixtures("here")
def test_the_function_gives_what_the_command_gives(popgen: Any) -> None:
    printed = popgen("retrieve", "--arch", "mlp-s", "--data", "digits/rotate:15", "--json").json
    assert retrieve_function("mlp-s", "digits/rotate:15").to_json() == printed


@pytest.mark.usefixtures("here")
def test_batch_norm_of_generated_networks_is_treated(popgen: Any) -> None:
    found, weights = {}, {}
    for value in ("keep", "0", "0.5", "auto"):
        command = ("generate", "--arch", "resnet-s,mlp-s", "--data", "digits/mirror", "-n", 1, "--batch-norm", value)
        found[value] = popgen(*command, "--out", value, "--json")
        weights[value] = load_file(f"{value}/resnet-s/00.safetensors")
    plain = popgen("generate", "--arch", "resnet-s", "--data", "digits/mirror", "-n", 1, "--out", "plain", "--json")
    assert plain.json["networks"][0]["batch_norm"] == "keep"
    kept = load_file("plain/resnet-s/00.safetensors")
    assert all(torch.equal(kept[name], weights[value][name]) for value in ("keep", "0") for name in kept)
    changed = {name for name in kept if not torch.equal(kept[name], weights["0.5"][name])}
    assert changed == {name for name in kept if name.endswith(("running_mean", "running_var"))}
    treated = {value: [one["batch_norm"] for one in called.json["networks"]] for value, called in found.items()}
    assert treated["0.5"] == [0.5, "none"] and treated["0"] == ["keep", "none"]
    chosen, without = found["auto"].json["networks"]
    information = chosen["batch_norm_choice"]["mutual_information"]
    assert set(information) == {"keep", "reestimate", "0.25", "0.5", "0.75"} and "batch_norm_choice" not in without
    assert str(chosen["batch_norm"]) == max(information, key=lambda name: information[name]) == "keep"
    assert "resnet-s: batch norm keep, by mutual information on unlabelled images (keep: " in found["auto"].err


@pytest.mark.usefixtures("here")
def test_statistics_need_images(popgen: Any) -> None:
    command = ("generate", "--arch", "resnet-s", "--describe", "digits, rotated by 45 degrees", "--batch-norm", "0.5")
    called = popgen(*command, code=None)
    assert called.code != 0 and "--batch-norm 0.5 is given without --data" in called.err


@pytest.mark.usefixtures("here")
def test_an_untrained_architecture_says_how_its_batch_norm_was_treated(popgen: Any) -> None:
    command = ("generate", "--arch", "resnet-s/widths:6-12", *DATA, "-n", 1, "--json")
    repaired = popgen(*command, "--out", "repaired").json["networks"][0]
    shared = popgen(*command, "--batch-norm", "0.5", "--out", "shared").json["networks"][0]
    assert repaired["batch_norm"] in ("keep", "reestimate") and shared["batch_norm"] == 0.5


@pytest.mark.usefixtures("here")
def test_generated_networks_are_finished_by_entropy_minimisation(popgen: Any) -> None:
    words = ("generate", "--arch", "resnet-s", *DATA, "-n", 1, "--json")
    plain = popgen(*words, "--batch-norm", "reestimate", "--out", "a").json["networks"][0]
    made = popgen(*words, "--finish", "tent:1", "--out", "b").json["networks"][0]
    assert made["batch_norm"] == "tent:1" and plain["batch_norm"] == "reestimate"
    spec, train = ArchSpec.from_config("resnet-s"), load_data("digits/rotate:45").train.inputs
    before, after = (spec.to_flat(load_file(one["weights"])) for one in (plain, made))
    assert torch.equal(after, minimise_entropy(spec, before, train, EntropySteps("tent", 1)))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--arch", "cnn-s", *DATA), "it trains batch norm, and there is none in cnn-s"),
        (("--arch", "resnet-s", "--describe", "digits"), "minimises the entropy of predictions for images, and --data"),
    ],
)
def test_entropy_that_cannot_be_minimised(popgen: Any, words: tuple[str, ...], text: str) -> None:
    failed = popgen("generate", *words, "--finish", "eta", code=None)
    assert failed.code != 0
    assert "--finish eta cannot be done" in failed.err and text in failed.err
