"""A generator, a zoo and results go to a hub and come back, over HTTP by the real client; what can go wrong says what to do."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub_client import Client, open_client
from hub_server import TOKEN, Hub, serve

from popgen.refs import ASSETS
from popgen.zoo import Zoo

DIGITS = ASSETS / "generators" / "digits"
SEARCH = ("search", "--arch", "mlp-s", "--data", "digits/rotate:45", "--evaluations", 24, "--workers", 0, "--json",
          "--finetune", "never")  # fmt: skip


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def client(hub: Hub, place: Path) -> Iterator[Client]:
    with open_client(hub.environment(place / "cache"), place) as opened:
        yield opened


@pytest.fixture(scope="module")
def pushed(client: Client) -> dict[str, Any]:
    """The shipped generator as ann/digits: what `--json` printed."""
    answer: dict[str, Any] = client("push", "ann/digits", DIGITS, "--json").json
    return answer


@pytest.fixture(scope="module")
def pushed_zoo(client: Client, place: Path) -> dict[str, Any]:
    """A small zoo as ann/zoo: what `--json` printed."""
    whole = Zoo.open("digits")
    zoo = Zoo.create(place / "zoo", "few", licence="BSD-3-Clause")
    zoo.add([(one, whole.state(one)) for one in whole.select("mlp-s", seed=0)])
    zoo.finalize()
    answer: dict[str, Any] = client("push", "ann/zoo", place / "zoo", "--json").json
    return answer


def files_of(hub: Hub, name: str, branch: str = "main") -> dict[str, bytes]:
    repository = hub.repositories[name]
    return repository.commits[repository.branches[branch]]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_generator_arrives_whole_with_a_card(hub: Hub, pushed: dict[str, Any]) -> None:
    there = files_of(hub, "ann/digits")
    assert {path: len(content) for path, content in there.items()} == pushed["files"]
    assert {"config.json", "codes.json", "model.safetensors", "texts.json", "README.md"} <= set(there)
    for path, content in there.items():
        if path.endswith((".json", ".safetensors")) and not path.startswith("audit"):
            assert content == (DIGITS / path).read_bytes(), path
    assert b"--generator hub:ann/digits" in there["README.md"]
    assert pushed["commit"] == hub.repositories["ann/digits"].branches["main"] and pushed["url"].startswith(hub.address)


@pytest.mark.slow  # two searches
def test_a_search_by_the_name_is_the_search_by_the_folder(
    client: Client, place: Path, pushed: dict[str, Any], pushed_zoo: dict[str, Any]
) -> None:
    far = client(*SEARCH, "--generator", "hub:ann/digits", "--zoo", "hub:ann/zoo", "--out", "far")
    near = client(*SEARCH, "--generator", DIGITS, "--zoo", place / "zoo", "--out", "near")
    assert far.json["results"][0]["rows"] == near.json["results"][0]["rows"]
    exact = f"hub:ann/digits@{pushed['commit']}"
    assert f"hub:ann/digits: commit {pushed['commit']}" in far.err
    written = yaml.safe_load((place / "far" / "config.yaml").read_text())
    assert written["search"]["generator"] == exact
    assert written["search"]["zoo"] == f"hub:ann/zoo@{pushed_zoo['commit']}"
    assert written["recorded"]["generator_sha256"] == sha256((DIGITS / "model.safetensors").read_bytes())
    card = (place / "far" / "README.md").read_text()
    assert "base_model:\n- ann/digits\n- ann/zoo\n" in card and exact in card
    again = client("search", "--resume", "far", "--evaluations", 36, "--json", "--workers", 0).json
    assert again["results"][0]["rows"][-1]["evaluations"] == 36, "the commit in config.yaml is found again"


def test_generate_retrieve_encode_and_the_commands_of_zoos_take_the_name(
    client: Client, place: Path, pushed: dict[str, Any], pushed_zoo: dict[str, Any]
) -> None:
    exact = f"hub:ann/digits@{pushed['commit']}"
    client(
        "generate",
        "--arch",
        "mlp-s",
        "--data",
        "digits/rotate:45",
        "-n",
        2,
        "--generator",
        "hub:ann/digits",
        "--out",
        "made",
    )
    made = json.loads((place / "made" / "result.json").read_text())
    assert made["settings"]["generator"] == exact and made["made_from"]["licences"] == {"BSD-3-Clause": 208}
    data = ("--arch", "mlp-s", "--data", "digits/rotate:30")
    assert client("retrieve", *data, "--generator", exact, "--out", "one.safetensors", "--json").json["arch"] == "mlp-s"
    refused = client("encode", "hub:ann/zoo", "--generator", "hub:ann/digits", "--out", "more", code=4)
    assert "holds codes of all checkpoints of the zoo 'few'" in refused.err
    assert client("zoo", "verify", "hub:ann/zoo", "--json").json["problems"] == []
    assert client("zoo", "list", "hub:ann/zoo", "--json").json["networks"] == len(Zoo.open(place / "zoo"))
    assert pushed_zoo["kind"] == "zoo"


def test_a_pushed_run_has_no_path_of_this_machine(client: Client, hub: Hub, place: Path) -> None:
    client(*SEARCH, "--out", place / "whole" / "run")
    for name in ("history.jsonl.lock", "secret.pt"):
        (place / "whole" / "run" / name).write_bytes(b"x")
    sent = client("push", "ann/run", place / "whole" / "run", "--json")
    assert set(sent.json["left_out"]) == {"history.jsonl.lock", "secret.pt"} and "not sent" in sent.err
    there = files_of(hub, "ann/run")
    assert not [path for path, content in there.items() if str(place).encode() in content]
    assert json.loads(there["result.json"])["results"][0]["weights"] == "best-mlp-s.safetensors"
    assert there["best-mlp-s.safetensors"] == (place / "whole" / "run" / "best-mlp-s.safetensors").read_bytes()


def test_a_dry_run_asks_nothing(client: Client, hub: Hub, pushed: dict[str, Any]) -> None:
    before = len(hub.requests)
    shown = client("push", "bob/new", DIGITS, "--dry-run", token="")
    assert "MB  model.safetensors" in shown.out and "nothing was sent" in shown.out and len(hub.requests) == before
    assert client("push", "bob/new", DIGITS, "--dry-run", "--json").json["commit"] is None and pushed["commit"]


@pytest.mark.usefixtures("pushed_zoo")
def test_a_second_push_replaces_what_is_gone(client: Client, hub: Hub, place: Path) -> None:
    folder = Path(shutil.copytree(place / "zoo", place / "smaller"))
    client("push", "ann/changing", folder, "--message", "first")
    before = set(files_of(hub, "ann/changing"))
    zoo = Zoo.open(folder)
    zoo.drop({zoo.records[0].id})
    zoo.finalize()
    client("push", "ann/changing", folder)
    there = set(files_of(hub, "ann/changing"))
    assert there != before and {p for p in there if p.startswith("shards/")} == {r.shard for r in zoo.records}
    assert client("zoo", "verify", "hub:ann/changing", "--json").json["networks"] == len(zoo)


def test_a_branch_a_private_repository_and_a_card_by_hand(client: Client, hub: Hub, own_generator: Path) -> None:
    (own_generator / "README.md").write_text("---\nlicense: mit\n---\nMine.\n")
    sent = client("push", "ann/secret", own_generator, "--private", "--revision", "v2", "--json")
    assert sent.json["card"] == "kept" and "is sent as it is" in sent.err
    assert hub.repositories["ann/secret"].is_private and files_of(hub, "ann/secret") == {}
    assert files_of(hub, "ann/secret", "v2")["README.md"].endswith(b"Mine.\n")
    data = ("--arch", "mlp-s", "--data", "digits", "-n", 1, "--generator", "hub:ann/secret@v2")
    refused = client("generate", *data, "--out", "x1", code=3, token="hf_other")
    assert "no repository ann/secret, or it is private and your token may not read it" in refused.err
    assert "HF_TOKEN" in refused.err
    client("generate", *data, "--out", "x2")
    client("push", "ann/open", own_generator)
    assert "is there already and public" in client("push", "ann/open", own_generator, "--private", code=4).err


@pytest.mark.usefixtures("pushed_zoo")
def test_an_audit_goes_along_and_into_the_card(client: Client, hub: Hub, own_generator: Path, place: Path) -> None:
    shutil.rmtree(own_generator / "audit", ignore_errors=True)
    (own_generator / "README.md").unlink(missing_ok=True)
    asked = ("--arch", "mlp-s", "--data", "digits/rotate:30", "--samples", 3, "--controls", 2, "--images", 60)
    audited = client("audit", own_generator, *asked, "--out", place / "audit", "--json").json
    word = audited["audits"][0]["verdict"]
    client("push", "ann/audited", own_generator, "--audit", place / "audit")
    there = files_of(hub, "ann/audited")
    card = there["README.md"].decode()
    assert (
        f"| mlp-s | digits/rotate:30 | **{word}** |" in card
        and "name: accuracy of mlp-s, mean of generated networks" in card
    )
    assert (
        json.loads(there["audit/result.json"])["audits"] == audited["audits"]
        and str(place).encode() not in there["audit/result.json"]
    )
    other = json.loads((place / "audit" / "result.json").read_text()) | {"generator_sha256": "0" * 64}
    (place / "other.json").write_text(json.dumps(other))
    refused = client("push", "ann/audited", own_generator, "--audit", place / "other.json", code=4)
    assert "not one of this generator" in refused.err
    assert "there is no audit in" in client("push", "ann/audited", own_generator, "--audit", "nowhere", code=3).err
    assert (
        "an audit is of a generator"
        in client("push", "ann/audited", place / "zoo", "--audit", place / "audit", code=4).err
    )


def test_wrong_names_and_kinds(client: Client, pushed: dict[str, Any], place: Path, pushed_zoo: dict[str, Any]) -> None:
    assert pushed["commit"] and pushed_zoo["commit"]
    answers = {
        "hub:ann/digits@v9": (3, "no branch, tag or commit 'v9'"),
        f"hub:ann/digits@{'0' * 40}": (3, f"no branch, tag or commit '{'0' * 40}'"),
        "hub:ann/nothing": (3, "no repository ann/nothing"),
        "hub:ann/zoo": (3, "hub:ann/zoo is not a generator"),
    }
    for name, (code, text) in answers.items():
        answer = client(*SEARCH, "--generator", name, "--out", "none", code=code)
        assert text in answer.err and "Traceback" not in answer.err, answer.err
    assert not (place / "none").exists()
    assert "hub:ann/digits is not a zoo" in client("zoo", "list", "hub:ann/digits", code=3).err
    assert "ann/digits holds a generator" in client("push", "ann/digits", place / "zoo", code=4).err


@pytest.mark.parametrize(
    ("status", "says", "code", "text"),
    [
        (401, "Invalid credentials", 4, "the hub does not take your token"),
        (403, "You don't have the rights", 4, "your token may not do that: You don't have the rights"),
        (403, "Private storage limit reached", 4, "no more room"),
        (409, "Conflict with a commit", 4, "somebody else writes to it"),
        (413, "Too large", 4, "no more room"),
        (429, "Slow down", 6, "takes no more requests for now"),
        (500, "Oh no", 6, "answers with the error 500"),
        (400, "Bad card", 4, "Bad card"),
    ],
)
def test_refusals_of_the_hub_are_explained(
    hub: Hub, client: Client, status: int, says: str, code: int, text: str
) -> None:
    where = "/commit/" if status == 409 else ""  # a 409 to making a repository says that it is there
    hub.refusal = (status, says, where)
    try:
        answer = client("push", f"bob/x{status}", DIGITS, code=code)
    finally:
        hub.refusal = None
    assert f"hub:bob/x{status} could not be written" in answer.err and text in answer.err, answer.err
    assert TOKEN not in answer.err


def test_without_a_token_nothing_is_asked(hub: Hub, client: Client) -> None:
    before = len(hub.requests)
    refused = client("push", "ann/digits", DIGITS, code=4, token="")
    assert "there is no token" in refused.err and "hf auth login" in refused.err and len(hub.requests) == before


def test_damage_is_found_before_and_after(
    client: Client, hub: Hub, place: Path, own_generator: Path, pushed: dict[str, Any]
) -> None:
    (own_generator / "model.safetensors").write_bytes(b"not a model")
    assert (
        "cannot be read" in client("push", "ann/broken", own_generator, code=5).err
        and "ann/broken" not in hub.repositories
    )
    data = ("--arch", "mlp-s", "--data", "digits", "-n", 1, "--generator", "hub:ann/digits", "--out", "y1")
    client(
        "retrieve",
        "--arch",
        "mlp-s",
        "--data",
        "digits/blur",
        "--generator",
        "hub:ann/digits",
        "--out",
        "y0.safetensors",
    )
    snapshot = place / "cache" / "hub" / "models--ann--digits" / "snapshots" / pushed["commit"]
    blob = (snapshot / "model.safetensors").resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    whole = blob.read_bytes()
    blob.write_bytes(content)
    try:
        assert "is damaged in the cache" in client("generate", *data, code=5).err
    finally:
        blob.write_bytes(whole)


@pytest.mark.slow  # four processes that import torch
def test_what_was_fetched_works_without_the_hub(tmp_path: Path) -> None:
    make = ("retrieve", "--arch", "mlp-s", "--data", "digits/blur", "--json")

    def check(client: Client, name: str, why: str) -> None:
        assert client(*make, "--generator", name, "--out", "b.safetensors").json["val_accuracy"] == there
        refused = client(*make, "--generator", "hub:ann/other", "--out", "c.safetensors", code=6)
        assert why in refused.err and "hf download ann/other --local-dir FOLDER" in refused.err
        refused = client("push", "ann/digits", DIGITS, code=6)
        assert why in refused.err and "could not be written" in refused.err

    with ExitStack() as opened:
        running = opened.enter_context(ExitStack())
        hub = running.enter_context(serve())
        environment = hub.environment(tmp_path / "cache")
        client = opened.enter_context(open_client(environment, tmp_path))
        commit = client("push", "ann/digits", DIGITS, "--json").json["commit"]
        there = client(*make, "--generator", "hub:ann/digits", "--out", "a.safetensors").json["val_accuracy"]
        running.close()
        check(client, "hub:ann/digits", "does not answer")
    with open_client(environment | {"HF_HUB_OFFLINE": "1"}, tmp_path) as client:
        check(client, f"hub:ann/digits@{commit}", "HF_HUB_OFFLINE is set")
