"""The command `popgen zoo`."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from popgen.archs import build
from popgen.cli.zoo import zoo
from popgen.errors import BadInput, BrokenFile, NotFound, PopgenError
from popgen.networks.forward import network_outputs
from popgen.zoo import Zoo

SPEC = """
zoo: {name: tiny, archs: [mlp-s], data: [digits, digits/invert], seeds: [0, 1], held_out: {seeds: [1]}, recipe: {epochs: 1}}
"""


def call(*arguments: object, code: int = 0) -> Result:
    done = CliRunner().invoke(zoo, [str(a) for a in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("cli")
    (base / "tiny.yaml").write_text(SPEC)
    done = call("build", base / "tiny.yaml", "--out", base / "zoo", "--workers", 0, "--json")
    facts = json.loads(done.stdout)
    assert (facts["networks"], facts["archs"]) == (4, ["mlp-s"])
    lines = done.stderr.splitlines()
    assert lines[0] == f"building the zoo {base / 'zoo'} ..."
    assert (lines[1], lines[-1]) == ("training: 0 of 4", "training: 4 of 4")
    return base / "zoo"


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(SPEC)
    arguments = ("build", tmp_path / "tiny.yaml", "--out", tmp_path / "zoo", "--dry-run")
    text = call(*arguments).stdout
    assert "4 networks (1 architectures x 2 data sets x 2 seeds), 4 to train" in text
    facts = json.loads(call(*arguments, "--json", "--set", "zoo.seeds=[0,1,2]").stdout)
    assert facts["to_train"] == 6
    assert facts["parameters"] == {"mlp-s": 4810}
    text = call(*arguments, "--set", "zoo.recipe.snapshots=5").stdout
    assert "20 networks (1 architectures x 2 data sets x 2 seeds x 5 snapshots), 4 to train" in text
    assert not (tmp_path / "zoo").exists()


def test_what_was_read_of_the_data_is_said(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / "images" / label).mkdir(parents=True)
        for i in range(5):
            Image.new("L", (8, 8), 16 * i + ord(label)).save(tmp_path / "images" / label / f"{i}.png")
    (tmp_path / "images" / "a" / "notes.txt").write_text("")
    archs = "[{name: two, like: mlp-s, classes: 2}]"
    (tmp_path / "own.yaml").write_text(
        f"zoo: {{name: own, archs: {archs}, data: ['folder:{tmp_path}/images'], seeds: [0], recipe: {{epochs: 1}}}}"
    )
    lines = [
        f"folder:{tmp_path}/images: images read: 10, split here into train, val and test",
        f"folder:{tmp_path}/images: files passed over: 1 with another suffix (.txt)",
    ]
    for more in (["--dry-run"], ["--workers", "0"]):
        said = call("build", tmp_path / "own.yaml", "--out", tmp_path / "zoo", *more).stderr.splitlines()
        assert [line for line in lines if line in said] == lines


def test_list_and_show(folder: Path) -> None:
    table = call("list", folder).stdout.splitlines()
    assert table[0].startswith("architecture")
    assert table[1].split()[:-1] == ["mlp-s", "digits", "2", "0", "(1)"]
    assert len(call("list", folder, "--all", "--data", "digits").stdout.splitlines()) == 3
    facts = json.loads(call("list", folder, "--data", "digits/invert", "--json").stdout)
    assert [c["id"] for c in facts["checkpoints"]] == ["mlp-s/digits/invert/s0", "mlp-s/digits/invert/s1"]
    shown = json.loads(call("show", folder, "mlp-s/digits/s1", "--json").stdout)
    assert shown["held_out"] is True
    assert shown["arch_config"]["options"] == {"hidden": [64]}
    assert "parent        start:0" in call("show", folder, "mlp-s/digits/s1").stdout


def test_verify_has_an_exit_code(folder: Path, tmp_path: Path) -> None:
    assert "4 networks, nothing damaged" in call("verify", folder).stdout
    (tmp_path / "shards").mkdir()
    for name in ("zoo.json", "index.jsonl", "references.safetensors", Zoo.open(folder).records[0].shard):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    shard = tmp_path / Zoo.open(folder).records[0].shard
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x7f")
    done = CliRunner().invoke(zoo, ["verify", str(tmp_path), "--json"])
    assert isinstance(done.exception, BrokenFile)
    assert done.exception.exit_code == 5
    assert json.loads(done.stdout)["problems"][0].startswith("mlp-s/digits/s1: its weights do not have")


def test_import_checks_and_reports(tmp_path: Path) -> None:
    torch.save({"state_dict": build("mlp-s", seed=0).state_dict()}, tmp_path / "net.pt")
    arguments = (
        "import",
        tmp_path / "net.pt",
        "--zoo",
        tmp_path / "zoo",
        "--arch",
        "mlp-s",
        "--data",
        "digits",
        "--check",
        "digits",
    )
    done = call(*arguments, "--json", "--licence", "MIT")
    (row,) = json.loads(done.stdout)["added"]
    assert row["id"] == "mlp-s/digits/net"
    assert row["metrics"]["test_accuracy"] < 0.3
    assert "mlp-s/digits/net; test accuracy 0." in done.stderr
    again = call(*arguments)
    assert "already there" in again.stderr
    assert "0 added, 1 networks" in again.stdout
    named = call(*arguments, "--as", "mlp-n", "--mean", "0.3", "--std", "0.2", "--json").stdout
    assert json.loads(named)["added"][0]["id"] == "mlp-n/digits/net"
    assert Zoo.open(tmp_path / "zoo").spec("mlp-n").config.inputs.mean == (0.3,)


def test_an_imported_checkpoint_can_be_named(tmp_path: Path) -> None:
    files, folder = tmp_path / "files", tmp_path / "zoo"
    files.mkdir()
    for seed in (0, 1):
        torch.save(build("mlp-s", seed=seed).state_dict(), files / f"model_best{seed or ''}.pth")
    arguments = ("--zoo", folder, "--arch", "mlp-s", "--data", "digits", "--name")
    call("import", files / "model_best.pth", *arguments, "run7")
    (record,) = Zoo.open(folder).records
    assert (record.id, record.lineage) == ("mlp-s/digits/run7", "run7")
    with pytest.raises(BadInput, match="(?s)--name 'run7' for the 2 checkpoints of .*files.*column `name`"):
        call("import", files, *arguments, "run7")
    with pytest.raises(BadInput, match="--name 'a/b'"):
        call("import", files / "model_best.pth", *arguments, "a/b")
    with pytest.raises(BadInput, match="(?s)has 'mlp-s/digits/run7' with other weights.*--name"):
        call("import", files / "model_best1.pth", *arguments, "run7")


@pytest.mark.parametrize("content", [b"no checkpoint", b""])
def test_a_refused_import_leaves_no_new_zoo(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.pt").write_bytes(content)
    with pytest.raises(PopgenError):
        call("import", tmp_path / "net.pt", "--zoo", tmp_path / "zoo", "--arch", "mlp-s", "--data", "digits")
    assert not (tmp_path / "zoo").exists()
    Zoo.create(tmp_path / "own", "own")
    with pytest.raises(PopgenError):
        call("import", tmp_path / "net.pt", "--zoo", tmp_path / "own", "--arch", "mlp-s", "--data", "digits")
    assert len(Zoo.open(tmp_path / "own")) == 0


def test_an_index_names_the_architectures_and_an_option_the_classes(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("file,architecture,dataset\na.pt,mlp-s,digits\nb.pt,cnn-s,digits/invert\n")
    for file, arch in (("a.pt", "mlp-s"), ("b.pt", "cnn-s")):
        torch.save(build(arch, seed=0).state_dict(), tmp_path / file)
    classes = [*"abcdefghij"]
    call("import", tmp_path / "index.csv", "--classes", ",".join(classes), "--zoo", tmp_path / "zoo")
    records = Zoo.open(tmp_path / "zoo").records
    assert {r.id for r in records} == {"mlp-s/digits/a", "cnn-s/digits/invert/b"}
    assert all(list(r.classes) == classes for r in records)
    (tmp_path / "index.csv").write_text("file,dataset\na.pt,digits\n")
    with pytest.raises(BadInput, match="a.pt: its architecture is not given"):
        call("import", tmp_path / "index.csv", "--classes", ",".join(classes), "--zoo", tmp_path / "zoo")


def test_a_folder_of_checkpoints_with_a_bad_one(tmp_path: Path) -> None:
    files, folder = tmp_path / "files", tmp_path / "zoo"
    files.mkdir()
    raw, ema = (build("mlp-s", seed=seed).state_dict() for seed in (0, 1))
    content = {"model": raw, "ema": ema}
    torch.save({**content, "model": {**raw, "total_ops": torch.zeros(1)}}, files / "a.pth.tar")
    torch.save(content, files / "b.PTH")
    (files / "c.pt").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    (files / "._a.pth.tar").write_bytes(b"")
    arguments = ("import", files, "--zoo", folder, "--arch", "mlp-s", "--data", "digits")
    done = CliRunner().invoke(zoo, [*map(str, arguments), "--ignore", "total_*"])
    assert isinstance(done.exception, BrokenFile) and done.exception.exit_code == 5
    assert "1 of 3 checkpoints were not imported" in str(done.exception)
    assert f"{files}: 3 taken; passed over: 1 of macOS" in done.stderr
    assert "mlp-s/digits/a; left out total_ops" in done.stderr
    assert "also holds EMA weights under 'ema': --use ema takes them" in done.stderr
    assert "mlp-s/digits/b has the same weights as mlp-s/digits/a: it is left out" in done.stderr
    assert "mlp-s/digits/c is left out" in done.stderr and "is a pointer of Git LFS" in done.stderr
    assert done.stdout == f"{folder}: 1 added, 1 networks\n"
    (files / "c.pt").unlink()
    assert "mlp-s/digits/b; EMA weights" in call(*arguments[:1], files / "b.PTH", *arguments[2:], "--use", "ema").stderr


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("list", "nowhere"), 3, "there is no zoo 'nowhere'"),
        (("build", "nowhere.yaml"), 3, "there is no spec 'nowhere.yaml'"),
    ],
)
def test_errors_carry_their_exit_code(arguments: tuple[str, ...], code: int, expected: str) -> None:
    with pytest.raises(PopgenError, match=expected) as caught:
        call(*arguments)
    assert caught.value.exit_code == code


def test_wrong_usage(folder: Path) -> None:
    assert "is not KEY=VALUE" in call("build", "digits", "--set", "seeds", code=2).stderr
    assert "not a list of numbers" in call("import", folder, "--zoo", "z", "--mean", "a", code=2).stderr


@pytest.mark.parametrize("command", ["build", "import", "list", "show", "verify"])
def test_every_command_has_examples_and_json(command: str) -> None:
    text = call(command, "--help").stdout
    assert f"popgen zoo {command}" in text
    assert "--json" in text


def test_a_zoo_is_aligned_by_weights_or_by_images(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    (tmp_path / "own.yaml").write_text(
        "zoo: {name: own, archs: [mlp-s], data: [digits], seeds: [0, 1, 2], start: null, recipe: {epochs: 2}}"
    )
    call("build", tmp_path / "own.yaml", "--out", own, "--workers", 0)
    before = Zoo.open(own)
    for name, options in (("weights", ()), ("images", ("--data", "digits"))):
        facts = json.loads(call("align", own, "--out", tmp_path / name, *options, "--json").stdout)
        made = Zoo.open(tmp_path / name)
        assert (facts["networks"], facts["moved"], facts["sha256"]) == (3, 2, made.sha256)
        images = torch.rand(20, 1, 8, 8)
        for record in before.records:
            old, new = before.matrix([record])[0], made.matrix([made.record(record.id)])[0]
            spec = before.spec("mlp-s")
            outputs = (network_outputs(spec, flat, spec.config.inputs.prepare(images)) for flat in (old, new))
            assert torch.allclose(*outputs, atol=1e-4)
    shared = call("align", folder, "--out", tmp_path / "shared")
    assert shared.stdout.strip() == f"{tmp_path / 'shared'}: 4 networks, of which 0 had units moved"
    with pytest.raises(BadInput, match="is not an empty folder"):
        call("align", own, "--out", tmp_path / "weights")
    with pytest.raises(NotFound, match="nowhere"):
        call("align", "nowhere", "--out", tmp_path / "x")
