"""Names that are refused before torch is imported: the errors are those of the jobs, and what is known passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from popgen.configs.search import SearchConfig
from popgen.configs.spec import ZooSpec
from popgen.errors import NotFound
from popgen.generator import Generator
from popgen.jobs.names import check_generate_names, check_search_names, check_zoo_names
from popgen.jobs.retrieve import retrieve
from popgen.jobs.search import prepare
from popgen.zoo import Zoo, build_zoo
from search import UnknownOptimizer


def config(**given: Any) -> SearchConfig:
    return SearchConfig(**{"archs": ["cnn-s"], "data": "digits", **given})


@pytest.mark.parametrize(
    "given",
    [
        {"archs": ["nosuch"]},
        {"archs": ["nosuch/channels:8"]},
        {"archs": ["nosuch"], "generator": "digits"},
        {"archs": ["cnn-s", "cnn-x"]},
        {"data": "nosuch"},
        {"data": "nosuch/size:8/rotate:45"},
        {"data": "digits/nosuch:3/rotate:45"},
        {"data": "digits/rotate:45/nosuch"},
        {"space": "nosuch"},
        {"optimizer": "nosuch"},
        {"objectives": ["loss", "nosuch"]},
        {"generator": "nosuch"},
        {"zoo": "nosuch"},
        {"archs": ["nosuch"], "zoo": "digits"},
    ],
)
def test_the_early_refusal_is_that_of_the_search(given: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((NotFound, UnknownOptimizer)) as early:
        check_search_names(config(**given))
    with pytest.raises((NotFound, UnknownOptimizer)) as late:
        prepare(config(**given))
    assert str(early.value) == str(late.value)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"archs": ["cnn-s/channels:12-24", "timm:resnet18", "my.nets:make", "hub:me/nets:net"]},
        {"data": "digits/rotate:45/classes:1+2/shots:3"},
        {"data": "folder:no/such/place"},
        {"data": "my.data:make/invert"},
        {"optimizer": "my.module:optimizer", "objectives": ["loss", "my.module:measure"]},
        {"space": "mix"},
    ],
)
def test_what_names_alone_do_not_decide_passes(given: dict[str, Any]) -> None:
    check_search_names(config(**given))


def test_a_zoo_or_generator_here_may_know_the_architecture(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    mine = ZooSpec(name="mine", archs=[{"name": "tiny", "like": "mlp-s"}], data=["digits"], recipe={"epochs": 0})
    build_zoo(mine, Path("elsewhere"), workers=0, progress=False)
    check_search_names(config(archs=["tiny"], zoo="elsewhere"))
    with pytest.raises(NotFound, match="'tiny'"):
        check_search_names(config(archs=["tiny"]))
    Path("zoos").mkdir()
    Path("elsewhere").rename("zoos/mine")
    check_search_names(config(archs=["tiny"]))
    assert Zoo.open("zoos/mine").archs == ["tiny"]
    Path("zoos/mine/index.jsonl").write_text("{")
    check_search_names(config(archs=["tiny"]))  # the search itself says that the index is broken


def test_architectures_to_generate_may_be_sizes_of_trained_ones() -> None:
    check_generate_names("digits", ["cnn-s", "cnn-s/channels:12-24"], "digits/rotate:45")
    with pytest.raises(NotFound, match="in this generator called 'nosuch'"):
        check_generate_names("digits", ["nosuch"], None)


def test_checkpoints_of_a_spec_may_be_of_its_own_architectures() -> None:
    entry = {"arch": "mine", "data": "anything", "file": "a.pt"}
    check_zoo_names(ZooSpec(name="z", archs=[{"name": "mine", "like": "cnn-s"}], checkpoints=[entry]))
    with pytest.raises(NotFound, match="no architecture called 'other'"):
        check_zoo_names(ZooSpec(name="z", checkpoints=[{**entry, "arch": "other"}]))


def test_retrieving_refuses_as_before() -> None:
    assert Generator.from_pretrained("digits").archs
    with pytest.raises(NotFound, match=r"no cnn-s checkpoint for 'digits/rotate:31'\nnearest known data sets: digits"):
        retrieve("cnn-s", "digits/rotate:31")
