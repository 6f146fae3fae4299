"""Starting Ray on this machine: a folder whose path is too long for its sockets is refused with what to set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NICENESS = """
import os
import ray
from search import RaySession
@ray.remote
def niceness():
    return os.nice(0)
os.nice(3)
with RaySession() as session:
    session.start(1, "local")
    print(ray.get(niceness.remote()) - os.nice(0))
"""
START = """
from search import RaySession, SearchError
try:
    RaySession().start(1)
except SearchError as error:
    print(error)
"""


def test_a_long_temporary_folder_is_named(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"RAY_TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    # A process of its own, because the tests of this one share a Ray.
    done = subprocess.run([sys.executable, "-c", START], env=environment, capture_output=True, text=True)
    what, why, todo = done.stdout.splitlines()
    assert what == f"Ray cannot work in {folder}"
    assert "107 bytes" in why
    assert todo.startswith("set RAY_TMPDIR to a short folder")


@pytest.mark.slow
@pytest.mark.parametrize(("chosen", "added"), [({}, 0), ({"RAY_worker_niceness": "2"}, 2)])
def test_workers_are_as_nice_as_this_process(chosen: dict[str, str], added: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_worker_niceness"}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), **chosen}
    done = subprocess.run([sys.executable, "-c", NICENESS], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == [str(added)]
