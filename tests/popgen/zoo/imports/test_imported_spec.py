"""Zoos of imported checkpoints: sources that a spec may list, specs that are refused, checkpoints that are left out."""

from __future__ import annotations

import hashlib
import json
import os
import socketserver
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner

from popgen.archs import ArchSpec, build
from popgen.cli.zoo import zoo as cli
from popgen.configs.load import load, parse
from popgen.configs.spec import SpecFile, ZooSpec
from popgen.errors import BadInput, BrokenFile, CannotResume, NotFound, Offline, PopgenError
from popgen.generator import GeneratorConfig
from popgen.zoo import Zoo, build_zoo
from popgen.zoo.build.build import plan

SPEC = ArchSpec.from_config("resnet-s")
HUBCONF = """
import torch
from torch import nn

dependencies = ["torch"]


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.fc = nn.Linear(256, num_classes)

    def forward(self, x):
        return self.fc(self.conv1(x).relu().flatten(1))


def small_net(pretrained=False, num_classes=10):
    net = Net(num_classes)
    if pretrained:
        with torch.no_grad():
            for value in net.parameters():
                value.fill_(0.25)
    return net


def bare_net():
    return Net(10)


def not_a_net(pretrained=False):
    return 7


def broken_net(pretrained=False):
    raise RuntimeError("no weights today")
"""


def weights(path: Path, seed: int) -> str:
    torch.save({"state_dict": build("resnet-s", seed=seed).state_dict()}, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(folder: Path, checkpoints: list[dict[str, Any]], **zoo: Any) -> Path:
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump({"zoo": {"name": "mine", "checkpoints": checkpoints, **zoo}}))
    return path


def built(path: Path, out: Path, **overrides: Any) -> Zoo:
    return build_zoo(load(path, SpecFile, overrides).zoo, out, progress=False)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    for seed in (1, 2, 3):
        weights(tmp_path / "files" / f"n{seed}.pt", seed)
    rows = "file,architecture,dataset,lineage,accuracy_stated\nn1.pt,resnet-s,digits,run,91.5\nn2.pt,half,digits,run,\n"
    (tmp_path / "files" / "index.csv").write_text(rows)
    return tmp_path


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    folder.mkdir()
    (folder / "hubconf.py").write_text(HUBCONF)
    return folder


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(files: Path) -> Iterator[str]:
    """URL of a local web server that serves the files."""
    with socketserver.ThreadingTCPServer(
        ("127.0.0.1", 0), partial(_Quiet, directory=str(files / "files"))
    ) as web_server:
        thread = threading.Thread(target=web_server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{web_server.server_address[1]}"
        web_server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path) -> Iterator[Path]:
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path / "torch-hub")
    yield tmp_path / "torch-hub"
    torch.hub.set_dir(before)


def test_files_and_an_index_become_a_zoo(files: Path) -> None:
    entry = {
        "arch": "resnet-s",
        "data": "digits",
        "file": "n3.pt",
        "name": "third",
        "lineage": "other",
        "licence": "MIT",
    }
    names = [f"d{i}" for i in range(10)]
    spec = write(
        files,
        [
            {"index": "index.csv", "class_names": names, "source": "a friend"},
            {**entry, "metrics": {"test_accuracy": 0.5}},
        ],
        archs=[{"name": "half", "like": "resnet-s", "mean": [0.5], "std": [0.25]}],
        root="files",
        licence="BSD-3",
        held_out={"lineages": ["other"]},
    )
    zoo = built(spec, files / "zoo")
    assert [r.id for r in zoo.records] == ["half/digits/n2", "resnet-s/digits/n1", "resnet-s/digits/third"]
    half, first, third = zoo.records
    assert (half.arch_config.inputs.mean, half.arch_config.inputs.std, first.arch_config.inputs.mean) == (
        (0.5,),
        (0.25,),
        (0.0,),
    )
    assert (first.lineage, first.source, first.licence, first.metrics) == (
        "run",
        "a friend",
        "BSD-3",
        {"accuracy_stated": 0.915},
    )
    assert (third.licence, third.metrics, third.held_out, first.held_out) == (
        "MIT",
        {"test_accuracy": 0.5},
        True,
        False,
    )
    assert half.classes == tuple(names) and third.classes == ()
    assert torch.equal(zoo.matrix([third])[0], SPEC.to_flat(build("resnet-s", seed=3).state_dict()))
    assert zoo.is_final and zoo.verify() == []
    again = Zoo.open(files / "zoo")
    assert built(spec, files / "zoo").sha256 == again.sha256
    os.rename(files / "files", files / "elsewhere")
    assert built(spec, files / "zoo", **{"zoo.root": "elsewhere"}).sha256 == again.sha256
    with pytest.raises(CannotResume, match=r"changed: checkpoints was (.|\n)*Build into another folder"):
        built(spec, files / "zoo", **{"zoo.root": "elsewhere", "zoo.checkpoints": [entry], "zoo.held_out": {}})


def test_bad_checkpoints_are_named_and_the_others_imported(files: Path) -> None:
    (files / "files" / "n2.pt").write_bytes(b"PK")
    torch.save(build("cnn-s").state_dict(), files / "files" / "n4.pt")
    entries = [{"arch": "resnet-s", "data": "digits", "file": f"n{i}.pt"} for i in (1, 2, 3, 4)]
    spec = write(files, entries, root="files")
    done = CliRunner().invoke(cli, ["build", str(spec), "--out", str(files / "zoo")])
    assert isinstance(done.exception, BrokenFile) and done.exception.exit_code == 5
    assert "2 of 4 checkpoints were not imported into" in str(done.exception)
    assert "the first is resnet-s/digits/n2" in str(done.exception)
    assert "resnet-s/digits/n4 is left out" in done.stderr and "Its tensors" not in done.stderr
    zoo = Zoo.open(files / "zoo")
    assert [r.id for r in zoo.records] == ["resnet-s/digits/n1", "resnet-s/digits/n3"]
    assert zoo.is_final
    assert [f.id for f in plan(load(spec, SpecFile).zoo, files / "zoo").to_import] == [
        "resnet-s/digits/n2",
        "resnet-s/digits/n4",
    ]
    weights(files / "files" / "n2.pt", 2)
    weights(files / "files" / "n4.pt", 4)
    assert len(built(spec, files / "zoo")) == 4


def test_dry_run_says_what_is_missing(files: Path) -> None:
    spec = write(
        files, [{"index": "index.csv"}], archs=[{"name": "half", "like": "resnet-s", "classes": 10}], root="files"
    )
    arguments = ["build", str(spec), "--out", str(files / "zoo"), "--dry-run"]
    assert "2 networks of 2 architectures, 2 to import" in CliRunner().invoke(cli, arguments).stdout
    facts = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    assert (facts["to_import"], facts["to_train"], facts["data"]) == (2, 0, ["digits"])
    assert not (files / "zoo").exists()


PLAIN = {"arch": "resnet-s", "data": "digits", "file": "n1.pt"}


@pytest.mark.parametrize(
    ("entry", "zoo", "error", "expected"),
    [
        ({**PLAIN, "file": "n9.pt"}, {}, NotFound, "2 of the 3 checkpoints of mine are not there\n"),
        ({**PLAIN, "file": "../spec.yaml"}, {}, BadInput, "leaves the folder"),
        ({**PLAIN, "arch": "resnet-x"}, {}, NotFound, "no architecture called 'resnet-x'"),
        (
            {
                **PLAIN,
                "arch": {"name": "x", "like": "torch.nn:Linear", "options": {"in_features": 5, "out_features": 10}},
            },
            {},
            BadInput,
            "does not run on images of 1x8x8",
        ),
        ({**PLAIN, "arch": {"name": "x", "like": "resnet-s", "mean": [0, 0]}}, {}, BadInput, "mean has 2 values"),
        ({**PLAIN, "class_names": ["a", "b"]}, {}, BadInput, "2 class names for 'resnet-s'\nit has 10 outputs"),
        ({**PLAIN, "arch": {"name": "resnet-s", "classes": 3}}, {}, BadInput, "two architectures called 'resnet-s'"),
        (
            PLAIN,
            {"held_out": {"lineages": ["n7"]}},
            NotFound,
            "held_out.lineages of mine has 'n7', but no checkpoint has that\nnearest known: n1",
        ),
        (PLAIN, {"held_out": {"data": ["digit"]}}, NotFound, "nearest known: digits"),
        ({"index": "none.csv"}, {}, NotFound, "none.csv does not exist"),
        ({"index": "index.csv"}, {}, NotFound, "no architecture called 'half'"),
        (
            {"hub": "nowhere:net", "arch": "resnet-s", "data": "digits"},
            {},
            BadInput,
            "'nowhere' of 'hub:nowhere:net' is no OWNER/REPO",
        ),
    ],
)
def test_a_spec_that_cannot_work_is_refused_first(
    files: Path, entry: dict[str, Any], zoo: dict[str, Any], error: type[PopgenError], expected: str
) -> None:
    others = (
        [PLAIN]
        if "n9" not in str(entry) and "file" not in entry
        else [{**PLAIN, "name": "one"}, {**entry, "name": "two"}]
    )
    spec = write(files, [*(others if entry is not PLAIN else []), entry], **{"root": "files", **zoo})
    with pytest.raises(error) as caught:
        built(spec, files / "zoo")
    assert expected in str(caught.value)
    assert not (files / "zoo").exists()


def test_an_id_twice_is_refused(files: Path) -> None:
    with pytest.raises(BadInput, match=r"mine has 'resnet-s/digits/n1' twice(.|\n)*Give one another name"):
        built(write(files, [PLAIN, PLAIN], root="files"), files / "zoo")


@pytest.mark.parametrize(
    ("zoo", "expected"),
    [
        (
            {"checkpoints": [{**PLAIN, "url": "http://a.org/x-12345678.pt"}]},
            "weights lie in one of file, index, hub, url; given: file, url",
        ),
        ({"checkpoints": [{"arch": "resnet-s", "data": "digits"}]}, "given: none"),
        ({"checkpoints": [{"file": "a.pt", "data": "digits"}]}, "a.pt: arch and data are needed"),
        ({"checkpoints": [{"index": "a.csv", "key": "ema"}]}, "a.csv: name, key and sha256 are of one file"),
        ({"checkpoints": [{**PLAIN, "file": None, "url": "http://a.org/x.pt"}]}, "http://a.org/x.pt: give its sha256"),
        (
            {"checkpoints": [{**PLAIN, "file": None, "url": "ftp://a.org/x.pt"}]},
            "zoo.checkpoints.0.url has a value that does not fit",
        ),
        (
            {"checkpoints": [{**PLAIN, "file": None, "hub": "a/b:c", "sha256": "12345678"}]},
            "sha256 is of a file or url",
        ),
        ({"checkpoints": [{**PLAIN, "file": None, "hub": "a/b:c", "use": "ema"}]}, "key and use are of a file or url"),
        ({"checkpoints": [{**PLAIN, "key": "a", "use": "ema"}]}, "key names the state dict already; leave use out"),
        ({"checkpoints": [{**PLAIN, "use": "best"}]}, "zoo.checkpoints.0.use has a value that does not fit"),
        ({"checkpoints": [{**PLAIN, "sha256": "xyz"}]}, "zoo.checkpoints.0.sha256 has a value that does not fit"),
        ({"checkpoints": [{**PLAIN, "licens": "MIT"}]}, "nearest known: licence"),
        (
            {"checkpoints": [PLAIN], "data": "digits"},
            "a zoo has archs and data, which are trained, or checkpoints, which are imported",
        ),
        ({"checkpoints": [PLAIN], "held_out": {"seeds": [0]}}, "held_out.seeds and .pairs are of trained networks"),
        (
            {"archs": ["cnn-s"], "data": "digits", "held_out": {"lineages": ["a"]}},
            "held_out.lineages are of imported networks",
        ),
    ],
)
def test_entries_that_do_not_fit(tmp_path: Path, zoo: dict[str, Any], expected: str) -> None:
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump({"zoo": {"name": "mine", **zoo}}))
    with pytest.raises(BadInput) as caught:
        load(tmp_path / "spec.yaml", SpecFile)
    assert expected in str(caught.value)


def test_a_download_is_checked_kept_and_used_again(files: Path, server: str, cache: Path) -> None:
    digest = weights(files / "files" / "n1.pt", 1)
    entry = {"arch": "resnet-s", "data": "digits", "url": f"{server}/n1.pt", "sha256": digest[:12]}
    zoo = built(write(files, [entry]), files / "zoo")
    assert [r.source for r in zoo.records] == [f"{server}/n1.pt"]
    assert (cache / "checkpoints" / "n1.pt").read_bytes() == (files / "files" / "n1.pt").read_bytes()
    (files / "files" / "n1.pt").unlink()
    assert built(write(files, [entry]), files / "zoo2").sha256 == zoo.sha256
    (cache / "checkpoints" / "n1.pt").write_bytes(b"altered")
    with pytest.raises(BrokenFile, match=r"n1\.pt is not the expected file(.|\n)*Download it again"):
        built(write(files, [entry]), files / "zoo3")


def test_a_folder_of_downloads_that_cannot_be_written_is_named(files: Path, server: str, cache: Path) -> None:
    digest = weights(files / "files" / "n1.pt", 1)
    cache.mkdir(exist_ok=True)
    (cache / "checkpoints").write_text("a file, not a folder")
    entry = {"arch": "resnet-s", "data": "digits", "url": f"{server}/n1.pt", "sha256": digest}
    with pytest.raises(CannotResume, match=r"the folder of downloads .* \(TORCH_HOME\) cannot be written"):
        built(write(files, [entry]), files / "zoo")


def test_an_entry_takes_moving_averages_and_leaves_tensors_out(files: Path) -> None:
    raw, ema = (build("resnet-s", seed=seed).state_dict() for seed in (1, 2))
    torch.save(
        {"state_dict": {**raw, "total_ops": torch.ones(1)}, "ema": ema, "acc": 91.5}, files / "files" / "both.pt"
    )
    entry = {"arch": "resnet-s", "data": "digits", "file": "both.pt", "ignore": ["total_*"]}
    zoo = built(write(files, [entry, {**entry, "name": "average", "use": "ema"}], root="files"), files / "zoo")
    average, both = zoo.records
    assert (average.note, both.note) == ("EMA weights", "left out total_ops")
    assert average.metrics == both.metrics == {"accuracy_in_file": 0.915}
    assert torch.equal(zoo.matrix([average])[0], SPEC.to_flat(ema))


def test_a_hash_in_the_name_counts(files: Path, server: str, cache: Path) -> None:
    digest = weights(files / "files" / "net.pt", 7)
    os.rename(files / "files" / "net.pt", files / "files" / f"net-{digest[:8]}.pt")
    weights(files / "files" / "net-00000000.pt", 8)
    entries = [{"arch": "resnet-s", "data": "digits", "url": f"{server}/net-{d}.pt"} for d in (digest[:8], "00000000")]
    with pytest.raises(BrokenFile, match=r"1 of 2 checkpoints(.|\n)*net-00000000\.pt is not the expected file"):
        built(write(files, entries), files / "zoo")
    assert [r.id for r in Zoo.open(files / "zoo").records] == [f"resnet-s/digits/net-{digest[:8]}"]
    assert [p.name for p in (cache / "checkpoints").iterdir()] == [f"net-{digest[:8]}.pt"]


def test_a_host_that_does_not_answer_is_asked_once(files: Path, server: str, cache: Path) -> None:
    with pytest.raises(NotFound, match=r"none-12345678\.pt does not exist\b"):
        entry = {"arch": "resnet-s", "data": "digits", "url": f"{server}/none-12345678.pt"}
        built(write(files, [entry]), files / "zoo")
    closed = "http://127.0.0.1:9"  # Nothing listens on the discard port.
    digest = weights(files / "n5.pt", 5)
    (cache / "checkpoints" / "n5.pt").write_bytes((files / "n5.pt").read_bytes())
    entries = [{"arch": "resnet-s", "data": "digits", "url": f"{closed}/n{i}.pt", "sha256": digest} for i in (6, 7, 5)]
    done = CliRunner().invoke(cli, ["build", str(write(files, entries)), "--out", str(files / "zoo2")])
    assert isinstance(done.exception, Offline) and done.exception.exit_code == 6
    assert "copy it to" in str(done.exception) and "n6.pt" in str(done.exception)
    assert "n7.pt could not be fetched: its host did not answer before" in done.stderr
    assert [r.id for r in Zoo.open(files / "zoo2").records] == ["resnet-s/digits/n5"]  # Its file was in the cache.


def test_only_the_tensors_of_a_hub_entry_are_taken(files: Path, hub: Path) -> None:
    arch = {"name": "small", "like": f"hub:{hub}:small_net", "input_shape": [1, 8, 8], "mean": [0.5], "std": [0.5]}
    mlp = {"name": "two", "like": "mlp-s", "options": {"hidden": []}}
    entries = [
        {"arch": "small", "data": "digits", "hub": f"{hub}:small_net"},
        {"arch": "two", "data": "digits", "hub": f"hub:{hub}:small_net"},
    ]
    with pytest.raises(
        BadInput, match=r"the first is two/digits/small_net\nhub:.*:small_net does not fit the architecture 'two'"
    ):
        built(write(files, entries, archs=[arch, mlp]), files / "zoo")
    (record,) = Zoo.open(files / "zoo").records
    assert (record.id, record.arch_config.classes, record.source) == ("small/digits/small_net", 10, f"{hub}:small_net")
    assert bool((Zoo.open(files / "zoo").matrix([record]) == 0.25).all())


@pytest.mark.parametrize(
    ("entry", "error", "expected"),
    [
        ("bare_net", BadInput, "has no weights\npretrained=True: TypeError"),
        ("not_a_net", BadInput, "returned int"),
        ("broken_net", BadInput, "failed\nRuntimeError: no weights today"),
        ("smal_net", NotFound, "has no entry 'smal_net'\nnearest known: small_net"),
    ],
)
def test_hub_entries_that_give_no_weights(
    files: Path, hub: Path, entry: str, error: type[PopgenError], expected: str
) -> None:
    with pytest.raises(error) as caught:
        built(write(files, [{"arch": "resnet-s", "data": "digits", "hub": f"{hub}:{entry}"}]), files / "zoo")
    assert expected in str(caught.value)


def test_the_published_spec_lists_all_its_checkpoints() -> None:
    zoo: ZooSpec = load("zoo_specs/cifar_resnets.yaml", SpecFile).zoo
    assert len(zoo.checkpoints) == 9
    assert {e.digest for e in zoo.checkpoints if e.url} == {"12fca82f", "d509ac18", "014dd654", "4bfd9763", "1d1ed7c2"}
    imports = plan(zoo, Path("/nowhere")).to_import
    assert [f.id for f in imports][3:5] == ["resnet56-b/cifar10/cifar10_resnet56", "resnet20/cifar10/akamaster"]
    assert all(len(f.class_names) == 10 and f.licence.startswith("BSD") for f in imports)
    assert imports[0].arch_spec.config.options["shortcut"] == "B" and imports[0].arch_spec.config.inputs.std == (
        0.2023,
        0.1994,
        0.2010,
    )


def test_the_spec_of_shifts_starts_from_a_checkpoint_of_the_published_zoo() -> None:
    shifts = load("zoo_specs/cifar_shifts.yaml", SpecFile)
    published = load("zoo_specs/cifar_resnets.yaml", SpecFile).zoo
    config = parse(shifts.generator, GeneratorConfig, "cifar_shifts")
    assert (config.prior.sampling.strength, config.encoders.labels) == ("auto", False)
    folder, _, start = str(shifts.zoo.start).partition("#")
    assert folder == f"zoos/{published.name}"
    assert start in {foreign.id for foreign in plan(published, Path("/nowhere")).to_import}
