"""Parts and few-shot data sets through the command line: generate, search, resume."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from popgen.archs import build

DATA = ("--data", "digits/rotate:45")
SEARCH = ("search", "--workers", "0", "--baselines", "none", "--evaluations")


@pytest.fixture
def base(popgen: Any, here: Path) -> dict[str, torch.Tensor]:
    popgen("retrieve", "--arch", "cnn-s", "--data", "digits/rotate:30", "--out", here / "base.safetensors")
    return load_file(here / "base.safetensors")


def only_head_differs(state: dict[str, torch.Tensor], base: dict[str, torch.Tensor]) -> bool:
    *kept, weight, bias = base  # the head's tensors are the last
    return all(torch.equal(state[n], base[n]) for n in kept) and not torch.equal(state[weight], base[weight])


@pytest.mark.usefixtures("here")
def test_generated_heads_on_a_kept_network(popgen: Any, base: dict[str, torch.Tensor]) -> None:
    options = ("--arch", "cnn-s", *DATA, "-n", 2, "--json")
    made = popgen("generate", *options, "--parts", "head", "--base", "base.safetensors").json["networks"]
    plain = popgen("generate", *options, "--out", "plain").json["networks"]
    for one, whole in zip(made, plain, strict=True):
        state = load_file(one["weights"])
        assert only_head_differs(state, base)
        head = list(base)[-1]
        assert torch.equal(state[head], load_file(whole["weights"])[head])
        assert one["val_accuracy"] > 0.5


@pytest.mark.usefixtures("here")
def test_a_search_of_heads_and_its_resume(popgen: Any, base: dict[str, torch.Tensor], timeless: Any) -> None:
    options = ("--arch", "cnn-s", *DATA, "--parts", "head", "--base", "base.safetensors")
    whole = popgen(*SEARCH, 50, *options, "--out", "whole", "--json").results[0]
    assert only_head_differs(load_file(whole["weights"]), base)
    popgen(*SEARCH, 36, *options, "--out", "run")
    shutil.move("base.safetensors", "moved.safetensors")
    assert "there is no file 'base.safetensors'" in popgen(*SEARCH, 50, "--resume", "run", code=3).err
    popgen(*SEARCH, 50, "--resume", "run", "--base", "moved.safetensors")
    assert timeless(Path("run")) == timeless(Path("whole"))
    save_file(build("cnn-s", seed=3).state_dict(), "moved.safetensors")
    changed = popgen(*SEARCH, 60, "--resume", "run", code=7).err
    assert "base_sha256 was" in changed and "cannot go on" in changed
    assert "parts was" in popgen(*SEARCH, 60, "--resume", "run", "--parts", "head,0.*", code=7).err


@pytest.mark.parametrize(
    ("options", "code", "pieces"),
    [
        (("--arch", "cnn-s", "--parts", "head"), 4, ["--parts head needs a base"]),
        (("--arch", "cnn-s", "--base", "base.safetensors"), 4, ["--base base.safetensors needs parts"]),
        (("--arch", "mlp-s", "--parts", "head", "--base", "base.safetensors"), 4, ["does not fit", "'mlp-s'"]),
        (("--arch", "cnn-s,mlp-s", "--parts", "head", "--base", "base.safetensors"), 4, ["one architecture"]),
        (("--arch", "cnn-s", "--parts", "hed", "--base", "base.safetensors"), 4, ["matches --parts 'hed'", "nearest"]),
        (("--arch", "cnn-s", "--parts", "head", "--base", "nowhere"), 3, ["no file 'nowhere'"]),
    ],
)
@pytest.mark.parametrize("command", ["search", "generate"])
@pytest.mark.usefixtures("base")
def test_parts_that_are_refused(
    popgen: Any, here: Path, command: str, options: tuple[str, ...], code: int, pieces: list[str]
) -> None:
    called = popgen(command, *options, *DATA, code=code)
    assert all(piece in called.err for piece in pieces), called.err
    assert [path.name for path in here.iterdir()] == ["base.safetensors"]


@pytest.mark.usefixtures("here", "base")
def test_a_refitted_head_leaves_nothing_to_search(popgen: Any) -> None:
    options = ("--arch", "cnn-s", *DATA, "--parts", "head", "--base", "base.safetensors", "--head", "refit")
    err = popgen(*SEARCH, 20, *options, code=4).err
    assert "--parts name only the head of 'cnn-s'" in err and "same network" in err and "--head keep" in err


@pytest.mark.parametrize("head", ["auto", "refit"])
@pytest.mark.usefixtures("here")
def test_a_search_with_few_shots(popgen: Any, head: str) -> None:
    data = "digits/rotate:45/classes:3+5+8/shots:5"
    found = popgen(*SEARCH, 40, "--arch", "cnn-s", "--data", data, "--head", head, "--json").results[0]
    assert found["details"]["head"] == ("remap" if head == "auto" else "refit")
    assert found["details"]["validation_images"] == 90  # the whole validation split of the three classes
    state = load_file(found["weights"])
    assert state[list(state)[-1]].shape[0] == 3
    assert found["rows"][-1]["test_accuracy"] > 0.8
