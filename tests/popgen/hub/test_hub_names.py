"""Names of the hub by their form, kinds of folders by their files, texts without paths: all without a network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from popgen.errors import BadInput, BrokenFile, NotFound
from popgen.hub.kinds import ADAPTED, GENERATOR, KINDS, SEARCH, ZOO, kind_of
from popgen.hub.names import HubName, check_repository, check_revision, parse_hub_name
from popgen.hub.paths import has_home, without_paths
from popgen.hub.upload import collect
from popgen.refs import ASSETS, inside


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("hub:ann/digits", HubName("ann/digits")),
        ("hub:ann/digits@v1.0", HubName("ann/digits", "v1.0")),
        ("hub:a_b/c.d-e@refs/pr/3", HubName("a_b/c.d-e", "refs/pr/3")),
    ],
)
def test_a_name_is_read_and_written(name: str, found: HubName) -> None:
    assert parse_hub_name(name) == found and found.text == name


@pytest.mark.parametrize(
    "name",
    [
        "hub:digits",
        "hub:",
        "hub:/x",
        "hub:ann/digits/x",
        "hub:ann/digits@",
        "hub:ann/digits@../../etc",
        "hub:ann/digits@-x",
        "hub:../x",
        "hub:ann/a--b",
        "hub:ann/x.git",
        "hub:ann/x y",
        f"hub:ann/{'x' * 100}",
        "hub:me/nets:small_net",
    ],
)
def test_another_form_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="names no repository of the hub\n.*hub:OWNER/NAME"):
        parse_hub_name(name)


def test_a_name_is_refused_before_torch_and_the_client_are_imported() -> None:
    code = (
        "import sys; from popgen.__main__ import run; "
        "codes = [run(words) for words in (['search', '--arch', 'mlp-s', '--data', 'digits', '--generator', 'hub:nope'], "
        "['audit', 'hub:a/b@..'], ['generate', '--arch', 'mlp-s', '--data', 'digits', '--generator', 'hub:a'], "
        "['encode', 'hub:x', '--out', 'y'], ['push', 'nope', '.'], ['push', 'a/b', 'nowhere'])]; "
        "print(codes, sorted({'torch', 'huggingface_hub'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[4, 4, 4, 4, 4, 3] []"


def test_what_is_written_needs_a_repository_and_a_branch() -> None:
    with pytest.raises(BadInput, match="'digits' is not the name of a repository"):
        check_repository("digits")
    with pytest.raises(BadInput, match="'a b' is not the name of a branch"):
        check_revision("a b")
    check_repository("ann/digits")
    check_revision(None)


def test_the_kind_is_known_by_the_files() -> None:
    assert kind_of(ASSETS / "generators" / "digits") is GENERATOR
    assert kind_of(ASSETS / "zoos" / "digits") is ZOO


def test_another_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(NotFound, match="is no folder that popgen wrote"):
        kind_of(tmp_path)
    with pytest.raises(NotFound, match="there is no folder"):
        kind_of(tmp_path / "nowhere")


def test_only_data_and_texts_belong_to_a_folder() -> None:
    for kind in KINDS:
        for path in (
            "model.pt",
            "x.pkl",
            "hubconf.py",
            "history.jsonl.lock",
            ".cache/config.json",
            "a/.x.json",
            "log/a.json",
        ):
            assert not kind.has(path), (kind.name, path)
    assert ZOO.has("shards/a.safetensors") and not ZOO.has("shards/a.bin") and not GENERATOR.has("shards/a.safetensors")
    assert (
        SEARCH.has("front-cnn-s/00003.safetensors") and SEARCH.is_data("result.json") and not SEARCH.is_data("LICENSE")
    )
    written = ("config.json", "model.safetensors", "tokenizer.json", "vocab.txt")
    assert all(SEARCH.has(f"best-bert-hf/{name}") for name in written), "what transformers loads"


def test_paths_of_this_machine_become_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "ann"))
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "first"
    text = f'{{"run": "{run}", "best": "{run}/best.safetensors", "base": "{tmp_path}/b.safetensors"}}\ndata_dir: {tmp_path}\nx: {tmp_path}/ann2'
    assert (
        without_paths(text, run)
        == '{"run": ".", "best": "best.safetensors", "base": "b.safetensors"}\ndata_dir: .\nx: ann2'
    )
    assert without_paths(f"--base {tmp_path}/ann/b", Path("/elsewhere")) == "--base ann/b"
    monkeypatch.chdir("/")
    assert without_paths(f"--base {tmp_path}/ann/b", Path("/elsewhere")) == "--base ~/b"
    assert has_home(f"{tmp_path}/ann/b") and not has_home("/usr/b")


def adapted(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "weights.safetensors").write_bytes(b"x")
    (folder / "result.json").write_text(text)
    return folder


def test_secrets_are_refused_by_file_and_line(tmp_path: Path) -> None:
    for secret in ("hf_" + "a" * 34, "ghp_" + "b" * 36, "AKIA" + "C" * 16, "-----BEGIN RSA PRIVATE KEY-----"):
        folder = adapted(tmp_path / "run", f'{{"a": 1,\n"key": "{secret}"}}')
        with pytest.raises(BadInput, match="result.json, line 2 holds what looks like a secret") as found:
            collect(folder, ADAPTED)
        assert secret not in str(found.value)


def test_a_home_folder_is_refused_where_a_hash_depends_on_the_text(own_generator: Path) -> None:
    file = own_generator / "codes.json"
    file.write_text(file.read_text().replace('"cnn-m/digits/blur/s0"', f'"{Path.home()}/x"', 1))
    with pytest.raises(BadInput, match=r"codes.json, line \d+ names your home folder"):
        collect(own_generator, GENERATOR)


def test_a_link_out_of_the_folder_and_a_text_that_is_none_are_refused(tmp_path: Path) -> None:
    folder = adapted(tmp_path / "run", "{}")
    (folder / "LICENSE").symlink_to("/etc/hostname")
    with pytest.raises(BadInput, match="leaves the folder"):
        collect(folder, ADAPTED)
    (folder / "LICENSE").unlink()
    (folder / "result.json").write_bytes(b"\xff\xfe")
    with pytest.raises(BrokenFile, match="result.json cannot be read"):
        collect(folder, ADAPTED)


def test_files_of_a_snapshot_are_inside_and_those_of_another_folder_are_not(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0" / "shards"
    snapshot.mkdir(parents=True)
    for place in ("models--a--b/blobs", "models--c--d/blobs"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "1").write_bytes(b"")
    (snapshot / "own").symlink_to("../../../blobs/1")
    (snapshot / "other").symlink_to(tmp_path / "models--c--d" / "blobs" / "1")
    assert inside(snapshot.parent, "shards/own").name == "1"
    for name in ("shards/other", "../../blobs/1"):
        with pytest.raises(BadInput, match="leaves the folder"):
            inside(snapshot.parent, name)
