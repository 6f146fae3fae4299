"""The command line in this process, and one finished run that several tests look at.

A new process costs six seconds of imports, so `popgen` calls `popgen.__main__.run`, as the installed command does.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from popgen.__main__ import run
from popgen.refs import asset


@dataclass(frozen=True)
class Called:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def results(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json["results"]
        return found


Popgen = Callable[..., Called]


@pytest.fixture(scope="session")
def popgen() -> Popgen:
    """`popgen("search", "--arch", "mlp-s", ..., cwd=folder, code=0)`; a `code` of None takes any."""

    def call(*arguments: object, cwd: Path | None = None, code: int | None = 0) -> Called:
        if arguments and arguments[0] == "search" and "--finetune" not in arguments:
            arguments = (*arguments, "--finetune", "never")  # has tests of its own, and takes seconds
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(cwd or Path.cwd()):
            ended = run([str(argument) for argument in arguments])
        called = Called(ended, out.getvalue(), err.getvalue())
        assert code is None or ended == code, f"exit code {ended}\n{called.err}{called.out}"
        return called

    return call


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums over threads differ in the last bit with their number; Ray's workers use one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def photos(here: Path) -> Path:
    """A folder PHOTOS with 24 small pictures in colour, without labels, in the current folder."""
    folder = here / "PHOTOS"
    folder.mkdir()
    noise = torch.Generator().manual_seed(0)
    for number in range(24):
        coarse = torch.rand(1, 3, 4, 4, generator=noise)
        image = torch.nn.functional.interpolate(coarse, size=32, mode="bilinear")[0]
        Image.fromarray((image.permute(1, 2, 0) * 255).byte().numpy()).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="session")
def run_folder(popgen: Popgen, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished search for two architectures: the folder, and what --json printed."""
    folder = tmp_path_factory.mktemp("search") / "run"
    options = ("--evaluations", 60, "--workers", 0, "--out", folder, "--json")
    called = popgen("search", "--arch", "cnn-s,mlp-s", "--data", "digits/rotate:45", *options)
    return folder, called.json


@pytest.fixture
def own_generator(tmp_path: Path) -> Path:
    """A copy of the shipped generator, to be damaged or changed."""
    shipped = asset("generators", "digits")
    assert shipped is not None
    return Path(shutil.copytree(shipped, tmp_path / "generator"))


@pytest.fixture
def second_generator(here: Path) -> Path:
    """./generators/mine: a copy of the shipped generator that calls the architecture cnn-s my-net."""
    shipped = asset("generators", "digits")
    assert shipped is not None
    folder = Path(shutil.copytree(shipped, here / "generators" / "mine"))
    for file in (folder / "config.json", folder / "codes.json"):
        file.write_text(file.read_text().replace('"cnn-s"', '"my-net"'))
    file = folder / "model.safetensors"
    save_file({k.replace("scaling.cnn-s.", "scaling.my-net."): v for k, v in load_file(file).items()}, file)
    return folder


@pytest.fixture
def edit_json() -> Callable[[Path, Callable[[dict[str, Any]], object]], None]:
    """`edit_json(file, lambda content: ...)` changes the content in place."""

    def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return edit


@pytest.fixture(scope="session")
def timeless() -> Callable[[Path], list[dict[str, Any]]]:
    """The lines of a run's history without their times."""

    def read(folder: Path) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        return [{name: line[name] for name in line if name not in ("seconds", "elapsed")} for line in lines]

    return read
