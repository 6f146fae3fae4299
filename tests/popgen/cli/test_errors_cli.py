"""What the command line says when it refuses: exit code, three lines that name the fault and the next step, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SEARCH = ("search", "--workers", "0", "--evaluations", "30")
MLP, ROTATED = ("--arch", "mlp-s"), ("--data", "digits/rotate:45")
OWN = ("--generator", "generator")


def refused(called: Any, pieces: list[str], left: list[str] | None, here: Path) -> None:
    """The form of every refusal, and that it left no files but those that the test itself made."""
    assert called.out == ""
    assert "Traceback" not in called.err
    lines = called.err.strip().splitlines()
    if lines[0].endswith(" ..."):  # what was begun, when names alone did not decide
        lines.pop(0)
    assert len(lines) <= 4, called.err
    assert lines[0].startswith("Usage: " if called.code == 2 else "error: "), called.err
    missing = [piece for piece in pieces if piece not in called.err]
    assert not missing, f"{missing} not in\n{called.err}"
    assert left is None or sorted(path.name for path in here.iterdir()) == sorted(left)


@pytest.mark.parametrize(
    ("command", "code", "pieces"),
    [
        ((*SEARCH, "--arch", "cnn-x", *ROTATED), 3, ["'cnn-x'", "cnn-s", "cnn-m"]),
        ((*SEARCH, *MLP, "--data", "digts"), 3, ["'digts'", "nearest known: digits"]),
        ((*SEARCH, *MLP, "--data", "digits/rotat:45"), 3, ["'rotat'", "nearest known: rotate", "digits/rotate:45"]),
        ((*SEARCH, *MLP, "--data", "digits/rotate:much"), 4, ["'much'", "rotate takes a number"]),
        ((*SEARCH, *MLP, *ROTATED, "--generator", "digts"), 3, ["'digts'", "nearest known: digits", "popgen train"]),
        ((*SEARCH, *MLP, *ROTATED, "--zoo", "digts"), 3, ["'digts'", "known: digits", "popgen zoo build"]),
        ((*SEARCH, *MLP, *ROTATED, "--optimizer", "CMAA"), 3, ["'CMAA'", "did you mean: CMA"]),
        ((*SEARCH, *MLP, *ROTATED, "--optimizer", "nowhere:it"), 3, ["'nowhere:it'", "No module named 'nowhere'"]),
        ((*SEARCH, *MLP, *ROTATED, "--space", "pcaa"), None, ["'pcaa'", "did you mean: pca"]),
        ((*SEARCH, *ROTATED), 2, ["Missing option '--arch'", "for example --arch cnn-s"]),
        ((*SEARCH, *MLP), 2, ["Missing option '--data'", "--data digits/rotate:45"]),
        ((*SEARCH, "--arch", "mlp-s,cnn-s,mlp-s", *ROTATED), 4, ["twice", "mlp-s"]),
        ((*SEARCH, *MLP, *ROTATED, "--split", "test"), 4, ["'test'", "Use val"]),
        ((*SEARCH, *MLP, *ROTATED, "--evaluations", "0"), 4, ["evaluations", "received 0"]),
        ((*SEARCH, *MLP, *ROTATED, "--evaluations", "many"), 2, ["'many'"]),
        ((*SEARCH, *MLP, *ROTATED, "--workers", "two"), 2, ["--workers", "'two'", "auto"]),
        ((*SEARCH, *MLP, *ROTATED, "--workers", "-1"), 2, ["--workers", "'-1'"]),
        ((*SEARCH, *MLP, *ROTATED, "--head", "keeep"), 2, ["'keeep'", "refit"]),
        ((*SEARCH, *MLP, *ROTATED, "--seed", "-1"), 4, ["seed", "received -1"]),
        ((*SEARCH, *MLP, "--data", "npz:nowhere.npz"), 3, ["'nowhere.npz'", "does not exist"]),
        ((*SEARCH, *MLP, "--data", "folder:nowhere"), 3, ["'nowhere'", "does not exist"]),
        ((*SEARCH, *MLP, "--data", "nowhere:make"), 3, ["'nowhere'", "cannot be imported"]),
        (("search", "--resume", "nowhere"), 3, ["no run in 'nowhere'", "config.yaml"]),
        (("generate", "--arch", "cnn-x", *ROTATED), 3, ["'cnn-x'", "cnn-s"]),
        (("generate", *MLP, *ROTATED, "-n", "0"), 4, ["n has a value that does not fit"]),
        (("retrieve", "--arch", "cnn-x", "--data", "digits/rotate:30"), 3, ["'cnn-x'", "cnn-s"]),
        (("train", "nowhere.yaml"), 3, ["'nowhere.yaml'"]),
        (("train", "digits", "--zoo", "nowhere"), 3, ["'nowhere'", "popgen zoo build"]),
        (("report", "nowhere"), 3, ["nothing to report on in 'nowhere'", "config.yaml, sweep.yaml", "popgen search"]),
        (("report", "nowhere", "--format", "pdf"), 2, ["'pdf'", "html", "md"]),
        (("serch",), 2, ["'serch'", "search"]),
    ],
    ids=lambda value: " ".join(value[-3:]) if isinstance(value, tuple) else "",
)
def test_command_lines_that_are_refused(
    popgen: Any, here: Path, command: tuple[str, ...], code: int | None, pieces: list[str]
) -> None:
    if command[:2] == ("train", "digits"):
        command = ("train", str(Path(__file__).parents[3] / "zoo_specs" / "digits.yaml"), *command[2:])
    called = popgen(*command, code=code)
    assert called.code != 0
    refused(called, pieces, [], here)


@pytest.mark.usefixtures("here")
def test_an_unknown_space_is_an_unknown_name(popgen: Any) -> None:
    popgen(*SEARCH, *MLP, *ROTATED, "--space", "pcaa", code=3)


def save(**arrays: Any) -> None:
    np.savez_compressed("own.npz", **arrays)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, 8, 8), dtype=np.uint8)


def cut_in_half(file: str) -> None:
    content = Path(file).read_bytes()
    Path(file).write_bytes(content[: len(content) // 2])


def truncated_npz() -> None:
    save(x=images(60), y=np.arange(60) % 10)
    cut_in_half("own.npz")


@pytest.mark.parametrize(
    ("make", "options", "code", "pieces"),
    [
        (
            lambda: save(x=images(60), y=np.arange(60) % 12),
            ("--head", "keep"),
            4,
            ["12 classes", "10 outputs", "refit"],
        ),
        (lambda: save(x=images(60), y=np.arange(60) % 12), ("--head", "remap"), 4, ["10, 11", "--head refit"]),
        (lambda: save(a=images(60)), (), 4, ["['a']", "x_train"]),
        (lambda: save(x=images(60) + 0.5, y=np.arange(60) % 10), (), 4, ["not usable", "uint8"]),
        (lambda: save(x=images(60), y=np.arange(40) % 10), (), 4, ["60", "40"]),
        (lambda: save(x=images(60), y=np.arange(60) % 10, classes=["a", "b"]), (), 4, ["own.npz", "2"]),
        (lambda: Path("own.npz").write_text("no arrays"), (), 5, ["own.npz", "cannot be read"]),
        (truncated_npz, (), 5, ["own.npz", "cannot be read"]),
    ],
    ids=["keep", "remap", "names", "range", "lengths", "classes", "text", "truncated"],
)
def test_data_that_does_not_fit(
    popgen: Any, here: Path, make: Callable[[], None], options: tuple[str, ...], code: int, pieces: list[str]
) -> None:
    make()
    refused(popgen(*SEARCH, *MLP, "--data", f"npz:{here}/own.npz", *options, code=code), pieces, ["own.npz"], here)


def test_a_file_that_was_replaced_is_read_again(popgen: Any, here: Path) -> None:
    """In one process, as in a notebook."""
    for classes in (10, 7):
        save(x=images(70), y=np.arange(70) % classes)
        command = (*SEARCH, *MLP, "--data", f"npz:{here}/own.npz", "--dry-run", "--head", "remap")
        sizes = popgen(*command).json["images"]
        save(x=images(140), y=np.arange(140) % classes)
        assert sum(popgen(*command).json["images"].values()) == 2 * sum(sizes.values())


def negative_labels() -> None:
    save(x=images(60), y=np.arange(60) % 10 - 1)


def word_labels() -> None:
    save(x=images(60), y=np.array(list("abcdef") * 10))


@pytest.mark.parametrize(
    ("make", "command"),
    [
        (lambda: save(x=images(0), y=np.arange(0)), (*SEARCH, *MLP, "--data", "npz:{here}/own.npz")),
        (negative_labels, (*SEARCH, *MLP, "--data", "npz:{here}/own.npz")),
        (word_labels, (*SEARCH, *MLP, "--data", "npz:{here}/own.npz")),
        (lambda: Path("file").touch(), (*SEARCH, *MLP, "--data", "folder:{here}/file")),
        (lambda: Path("file").touch(), (*SEARCH, *MLP, *ROTATED, "--out", "file/run")),
        (lambda: Path("file").touch(), ("generate", *MLP, *ROTATED, "-n", "1", "--out", "file")),
        (
            lambda: Path("made").mkdir(),
            ("retrieve", *MLP, "--data", "digits/rotate:30", "--out", "made"),
        ),
    ],
    ids=[
        "no images",
        "label -1",
        "words",
        "folder:FILE",
        "--out FILE/run",
        "generate --out FILE",
        "retrieve --out DIR",
    ],
)
def test_odd_input_is_no_traceback(popgen: Any, here: Path, make: Callable[[], None], command: tuple[str, ...]) -> None:
    make()
    called = popgen(*(word.format(here=here) for word in command), code=None)
    assert called.code in (3, 4, 5)
    refused(called, [], None, here)


@pytest.mark.parametrize("name", [".", ".."])
def test_a_folder_that_is_no_generator(popgen: Any, here: Path, name: str) -> None:
    refused(popgen(*SEARCH, *MLP, *ROTATED, "--generator", name, code=3), ["no config.json"], [], here)


def test_an_empty_folder_of_images(popgen: Any, here: Path) -> None:
    (here / "none").mkdir()
    called = popgen(*SEARCH, *MLP, "--data", "folder:none", code=4)
    refused(called, ["no class folders", "FOLDER/CLASS/image.png"], ["none"], here)


def test_a_class_without_training_images(popgen: Any, here: Path) -> None:
    parts = {"x_train": images(40), "y_train": np.arange(40) % 9, "x_test": images(10), "y_test": np.arange(10)}
    save(**parts)
    refused(
        popgen(*SEARCH, *MLP, "--data", f"npz:{here}/own.npz", code=4),
        ["without training images: 9"],
        ["own.npz"],
        here,
    )


@pytest.mark.parametrize(
    ("file", "content", "pieces"),
    [
        ("config.json", '{"format": 1, "archs": ', ["generator", "cannot be read"]),
        ("config.json", "[]", ["generator"]),
        ("config.json", '{"format": 1}', ["generator"]),
        ("config.json", '{"format": 99}', ["format 99"]),
        ("codes.json", "", ["generator", "cannot be read"]),
        ("codes.json", "[]", ["generator"]),
        ("model.safetensors", None, ["generator", "cannot be read"]),
    ],
)
def test_broken_generators(
    popgen: Any, here: Path, own_generator: Path, file: str, content: str | None, pieces: list[str]
) -> None:
    if content is None:
        cut_in_half(f"generator/{file}")
    else:
        (own_generator / file).write_text(content)
    refused(popgen(*SEARCH, *MLP, *ROTATED, *OWN, code=5), pieces, ["generator"], here)


def test_a_generator_of_other_sizes(popgen: Any, here: Path, own_generator: Path, edit_json: Any) -> None:
    edit_json(own_generator / "config.json", lambda content: content["generator"]["vae"].update(width=64))
    refused(popgen(*SEARCH, *MLP, *ROTATED, *OWN, code=5), ["do not fit together"], ["generator"], here)


def test_a_generator_with_an_unknown_setting(popgen: Any, here: Path, own_generator: Path, edit_json: Any) -> None:
    edit_json(own_generator / "config.json", lambda content: content["generator"].update(later="version"))
    refused(popgen(*SEARCH, *MLP, *ROTATED, *OWN, code=5), ["later"], ["generator"], here)


@pytest.mark.parametrize(
    ("encoder", "name", "code", "pieces"),
    [
        ("images", "clip-tinny", 3, ["'clip-tinny'", "nearest known: clip-tiny", "local-dir:FOLDER"]),
        ("text", "text-tinny", 3, ["'text-tinny'", "nearest known: text-tiny"]),
        ("images", "local-dir:nowhere", 3, ["no folder nowhere"]),
        ("images", "hf-hub:nobody/not-a-model-of-popgen", 6, ["nobody/not-a-model-of-popgen", "hf download"]),
        ("text", "nobody/not-a-model-of-popgen", 6, ["nobody/not-a-model-of-popgen", "hf download"]),
    ],
)
def test_encoders_that_cannot_be_had(
    popgen: Any,
    here: Path,
    own_generator: Path,
    edit_json: Any,
    monkeypatch: pytest.MonkeyPatch,
    encoder: str,
    name: str,
    code: int,
    pieces: list[str],
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # the same with and without a network
    edit_json(own_generator / "config.json", lambda content: content["generator"]["encoders"].update({encoder: name}))
    command = ("generate", *MLP, *ROTATED, "-n", 1, *OWN)
    refused(popgen(*command, code=code), pieces, None, here)


@pytest.mark.parametrize("command", [SEARCH, ("generate", "-n", "1")], ids=["search", "generate"])
def test_missing_encoders_leave_no_folders(
    popgen: Any, here: Path, own_generator: Path, edit_json: Any, command: tuple[str, ...]
) -> None:
    edit_json(
        own_generator / "config.json", lambda content: content["generator"]["encoders"].update(images="clip-tinny")
    )
    called = popgen(*command, *MLP, *ROTATED, *OWN, code=3)
    refused(called, ["nearest known: clip-tiny"], ["generator"], here)


@pytest.mark.parametrize(
    ("content", "code", "pieces"),
    [
        (b"search: [oops", 5, ["config.yaml", "cannot be read"]),
        (b"only words", 5, ["config.yaml", "cannot be read"]),
        (b"\xff\xfe\x00\x81", 5, ["config.yaml", "cannot be read"]),
        (b"search: {archs: [mlp-s], data: digits, heads: keep}\nrecorded: {}\n", 4, ["heads", "nearest known: head"]),
    ],
)
def test_a_broken_config_of_a_run(popgen: Any, here: Path, content: bytes, code: int, pieces: list[str]) -> None:
    (here / "run").mkdir()
    (here / "run" / "config.yaml").write_bytes(content)
    refused(popgen("search", "--resume", "run", code=code), pieces, ["run"], here)


def test_a_broken_population_or_history_is_named(popgen: Any, here: Path) -> None:
    popgen(*SEARCH, *MLP, *ROTATED, "--baselines", "none", "--out", "run")
    population, history = here / "run" / "population-mlp-s.safetensors", here / "run" / "history.jsonl"
    kept = population.read_bytes()
    population.write_bytes(kept[:100])
    assert "population-mlp-s.safetensors" in popgen("search", "--resume", "run", code=None).err
    population.write_bytes(kept)
    lines = history.read_text().splitlines(keepends=True)
    history.write_text("".join(lines[:5] + lines[6:]))
    called = popgen("search", "--resume", "run", code=None)
    assert called.code != 0 and "line 6" in called.err and "missing or doubled" in called.err


def test_an_objective_that_always_fails_stops_early(popgen: Any, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training images with a NaN: every candidate's refitted head is NaN or fails, ten in a row end the search."""
    (here / "nan_data.py").write_text(
        """
from popgen.data import DataSet, Part, load_data

def make():
    plain = load_data("digits")
    images = plain.train.inputs.clone()
    images[0] = float("nan")
    return DataSet("nan_data:make", plain.classes, Part(images, plain.train.targets), plain.val, plain.test)
"""
    )
    monkeypatch.syspath_prepend(str(here))
    called = popgen(*SEARCH, *MLP, "--data", "nan_data:make", "--head", "refit", code=None)
    assert called.code in (1, 4) and "error: " in called.err and "Traceback" not in called.err
    assert "nan" in called.err.lower() or "[0, 1]" in called.err


@pytest.mark.slow
def test_exit_codes_of_a_real_process(here: Path) -> None:
    """And a search.py of the user's own, which would hide popgen's package, is told from a broken installation."""
    (here / "search.py").write_text("print('mine')\n")
    command = [sys.executable, "-m", "popgen", *SEARCH, *MLP, *ROTATED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (4, "")
    assert "search.py" in done.stderr and "Rename it" in done.stderr and "Traceback" not in done.stderr
    (here / "search.py").unlink()
    done = subprocess.run([*command, "--arch", "cnn-x"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (3, "")
    assert "error: " in done.stderr and "cnn-s" in done.stderr


def test_help_documents_the_exit_codes(popgen: Any) -> None:
    text = popgen("--help").out
    assert all(piece in text for piece in ("3 unknown name", "5 broken file", "130 Ctrl-C"))
    listed = json.dumps(popgen("search", "--help").out)
    options = (
        "arch data generator head batch-norm evaluations seconds optimizer space workers seed out resume json dry-run"
    )
    assert [o for o in options.split() if f"--{o}" not in listed] == []
