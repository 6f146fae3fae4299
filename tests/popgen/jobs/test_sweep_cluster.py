"""`popgen sweep` on a Ray cluster of two nodes, one of which is lost in the middle; and a folder that is not shared."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.append(str(Path(__file__).parents[2] / "search" / "pools"))

from nodes import Nodes  # noqa: E402 - beside the tests of search

from popgen.networks.precision import has_bfloat16  # noqa: E402

pytestmark = pytest.mark.slow
MAIN = "import os, sys; os.chdir(sys.argv[1]); from popgen.__main__ import run; sys.exit(run(sys.argv[2:]))"
EVALUATIONS = 800


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    with Nodes(count=2, cpus=1) as cluster:
        yield cluster


def write(file: Path) -> str:
    grid = {"name": "turned", "archs": ["mlp-s", "cnn-s"], "data": ["digits/rotate:45"], "seeds": [0, 1]}
    file.write_text(yaml.safe_dump({**grid, "search": {"evaluations": EVALUATIONS}}))
    return str(file)


def test_a_lost_node_changes_nothing(
    nodes: Nodes, popgen: Any, here: Path, timeless: Callable[[Path], list[dict[str, Any]]]
) -> None:
    driver = nodes.driver(MAIN, str(here), "sweep", write(here / "s.yaml"), "--out", "out", "--json")
    give_up = time.monotonic() + 180
    begun: list[int] = []
    while len(begun) < 2:
        assert time.monotonic() < give_up and driver.poll() is None, "no two searches were at work at one time"
        lines = [file.read_bytes().count(b"\n") for file in here.glob("out/runs/*/history.jsonl")]
        begun = [count for count in lines if 60 < count < EVALUATIONS - 200]  # one of them on either node
        time.sleep(0.01)
    nodes.kill(1)
    said, complaint = driver.communicate(timeout=300)
    assert driver.returncode == 0, complaint
    rows = json.loads(said)["rows"]
    assert [(row["done"], row["failed"]) for row in rows] == [(2, 0), (2, 0)]
    for row in rows:
        for one in row["searches"]:
            single = here / f"{row['arch']}-{one['seed']}"
            command = ("search", "--arch", row["arch"], "--data", "digits/rotate:45", "--seed", one["seed"])
            options = ("--evaluations", EVALUATIONS, "--workers", 0, "--baselines", "none", "--out", single)
            popgen(*command, *options)
            assert timeless(here / one["run"]) == timeless(single)


def test_a_folder_that_the_nodes_do_not_share_is_refused(nodes: Nodes, here: Path) -> None:
    """Under /proc/self/cwd every process sees another folder."""
    driver = nodes.driver(MAIN, str(here), "sweep", write(here / "s.yaml"), "--out", "/proc/self/cwd/out")
    _, complaint = driver.communicate(timeout=120)
    assert driver.returncode == 1
    assert "error: /proc/self/cwd/out is not shared by all nodes of the Ray cluster\nnode " in complaint
    assert "FileNotFoundError" in complaint and "such as NFS" in complaint
    assert sorted(file.name for file in (here / "out").iterdir()) == ["sweep.yaml"]


def test_populations_are_sampled_anywhere(nodes: Nodes, popgen: Any, here: Path, own_generator: Path) -> None:
    """From a generator that only this process finds: the nodes run elsewhere, and its name is relative."""
    command = ("generate", "--arch", "cnn-s,mlp-s", "--data", "digits/rotate:45", "-n", "2", "--json")
    options = ("--generator", own_generator.name)
    printed = json.loads(nodes.drive(MAIN, str(here), *command, *options, "--out", "far", timeout=240))["networks"]
    alone = popgen(*command, *options, "--out", "near").json["networks"]
    for one in (*printed, *alone):  # paths differ, and so do measured seconds
        one["weights"], one["family"]["training"] = "", None
    assert printed == alone
    assert os.path.samefile(own_generator.parent, here)


def test_a_cluster_is_asked_whether_it_computes_in_bfloat16(
    nodes: Nodes, popgen: Any, here: Path, timeless: Callable[[Path], list[dict[str, Any]]]
) -> None:
    command = ("search", "--arch", "mlp-s", "--data", "digits/rotate:45", "--evaluations", "8", "--baselines", "none")
    options = ("--population", "4", "--finetune", "never", "--precision", "bfloat16")
    driver = nodes.driver(MAIN, str(here), *command, *options, "--out", "out")
    _, complaint = driver.communicate(timeout=300)
    if not has_bfloat16():
        assert driver.returncode == 4 and "2 of the cluster's 2 nodes would emulate it" in complaint
        return
    assert driver.returncode == 0, complaint
    measured = json.loads((here / "out" / "precision-mlp-s.json").read_text())["measured"]
    assert measured["difference"] < 0.05, "it was measured on a worker"
    popgen(*command, *options, "--workers", 0, "--out", "here")
    assert timeless(here / "out") == timeless(here / "here")
