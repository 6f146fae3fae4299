"""A user's own code: where its modules are found, and that nothing runs which the user has not named."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from popgen import trust
from popgen.archs import arch_config, build
from popgen.cli import cli
from popgen.configs.load import load
from popgen.configs.spec import SpecFile, ZooSpec
from popgen.errors import NotFound, NotTrusted
from popgen.refs import load_attr
from popgen.zoo import Zoo, build_zoo

OWN = """
from pathlib import Path

from torch import nn

Path(__file__).with_name("was_run").touch()


def make(classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


make.input_shape, make.mean, make.std = (1, 8, 8), (0.5,), (0.5,)
"""
SPEC = "zoo: {name: own, archs: ['own_nets:make'], data: [digits], seeds: [0, 1], recipe: {epochs: 0}}"


@pytest.fixture(autouse=True)
def new_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Forget what this process has named and imported, now and whenever the function is called."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = list(sys.path)

    def forget() -> None:
        monkeypatch.setattr(sys, "path", list(path))
        for name, empty in (("_named", set()), ("_spec_folders", []), ("_joined", [])):
            monkeypatch.setattr(trust, name, empty)
        sys.modules.pop("own_nets", None)

    forget()
    yield forget
    sys.modules.pop("own_nets", None)


def write_own(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "own_nets.py").write_text(OWN)
    return folder


def test_a_module_beside_the_spec_and_one_in_the_current_folder_are_found(
    tmp_path: Path, new_process: Callable[[], None]
) -> None:
    beside = write_own(tmp_path / "specs")
    (beside / "own.yaml").write_text(SPEC)
    with pytest.raises(NotFound, match="(?s)module 'own_nets'.*put it beside the spec"):
        arch_config("own_nets:make")
    load(beside / "own.yaml", SpecFile)
    before = list(sys.path)
    assert arch_config("own_nets:make").classes == 10
    assert sys.path == [*before, str(beside)]  # behind everything else
    new_process()
    here = write_own(Path.cwd())
    load(beside / "own.yaml", SpecFile)
    assert build("own_nets:make") and sys.path[-1] == str(here)


def test_nothing_in_the_current_folder_takes_the_place_of_a_package(tmp_path: Path) -> None:
    (tmp_path / "here" / "click.py").write_text("raise SystemExit")
    trust.trust("click:echo")
    assert load_attr("click:echo").__module__.startswith("click.")
    assert str(tmp_path / "here") not in sys.path


def test_a_module_that_the_user_has_not_named_is_not_imported(tmp_path: Path) -> None:
    own = write_own(tmp_path / "here")
    with pytest.raises(NotTrusted, match="(?s)own_nets:make is code from outside.*it would run.*--trust own_nets:make"):
        load_attr("own_nets:make")
    trust.trust("own_nets:other")
    with pytest.raises(NotFound):
        load_attr("own_nets:other")
    with pytest.raises(NotTrusted):  # The folder has joined the path for another name.
        load_attr("own_nets:make")
    assert (own / "was_run").exists()


def test_what_a_spec_names_is_trusted_on_this_machine(tmp_path: Path, new_process: Callable[[], None]) -> None:
    own = write_own(tmp_path / "here")
    (own / "own.yaml").write_text(SPEC)
    done = CliRunner().invoke(cli, ["zoo", "build", "own.yaml", "--out", "zoo", "--workers", "0"])
    assert done.exit_code == 0, done.output
    new_process()
    assert Zoo.open("zoo").spec("own_nets:make").size == 650
    assert trust.trust_file().read_text() == f"own_nets:make\t{own / 'own_nets.py'}\n"


def test_a_zoo_from_elsewhere_asks_once(
    tmp_path: Path, new_process: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_own(tmp_path / "here")
    spec = ZooSpec(name="own", archs=["own_nets:make"], data=["digits"], seeds=[0], recipe={"epochs": 0})
    zoo = build_zoo(spec, tmp_path / "zoo", workers=0, progress=False)
    (record,) = zoo.records
    new_process()
    monkeypatch.chdir(write_own(tmp_path / "other"))  # a module of the same name, which was never named
    verify = ["zoo", "verify", str(zoo.folder)]
    with pytest.raises(NotTrusted):
        Zoo.open(zoo.folder).state(record)
    assert not (tmp_path / "other" / "was_run").exists()
    assert CliRunner().invoke(cli, [*verify, "--trust", "own_nets:make"]).exit_code == 0
    new_process()
    assert Zoo.open(zoo.folder).state(record)


def test_an_imported_checkpoint_names_its_code_too(tmp_path: Path, new_process: Callable[[], None]) -> None:
    write_own(tmp_path / "here")
    torch.save({"1.weight": torch.zeros(10, 64), "1.bias": torch.zeros(10)}, "net.pt")
    arguments = ["zoo", "import", "net.pt", "--zoo", "zoo", "--arch", "own_nets:make", "--data", "digits"]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    new_process()
    assert Zoo.open("zoo").spec("own_nets:make").size == 650


def test_a_trust_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("")
    with pytest.warns(UserWarning, match="hub:me/nets:net is trusted in this run alone"):
        trust.remember(["hub:me/nets:net"])
    assert trust.is_trusted("hub:me/nets:net")


@pytest.mark.slow
def test_workers_find_the_module_too(tmp_path: Path) -> None:
    beside = write_own(tmp_path / "specs")
    (beside / "own.yaml").write_text(SPEC)
    spec = load(beside / "own.yaml", SpecFile).zoo
    assert len(build_zoo(spec, tmp_path / "zoo", workers=2, progress=False)) == 2
