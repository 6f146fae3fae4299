"""A search across two nodes, of which one dies and a third joins; and the token that a driver needs to join."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from nodes import Nodes

pytestmark = pytest.mark.slow

DRIVER = """
import json, sys, tempfile, time
import numpy as np
import ray
from search import Budget, LocalPool, Population, RayPool, Request, SearchSettings, run_search

EVALUATIONS = 360
LATE = 240  # the node joins before this one

def quick(vector):
    return float(((vector - 0.3) ** 2).sum())

def objective(vector):
    time.sleep(0.05)
    return quick(vector), {"node": float(int(ray.get_runtime_context().get_node_id()[:8], 16))}

seeds = Population(np.random.default_rng(0).normal(size=(8, 4)), [f"seed-{row}" for row in range(8)])
settings = SearchSettings(optimizer="CMA", budget=Budget(evaluations=EVALUATIONS))
sizes = []

def watch(progress):
    sizes.append(pool.size)
    if len(sizes) in (60, 140):
        print("KILL" if len(sizes) == 60 else "ADD", flush=True)
        sys.stdin.readline()

def search(pool, objective, on_evaluation):
    path = tempfile.mkdtemp() + "/history.jsonl"
    run_search(objective, seeds, settings, history_path=path, key="x", pool=pool, on_evaluation=on_evaluation)
    lines = [json.loads(line) for line in open(path)]
    return [line for line in lines if "loss" in line]

pool = RayPool(objective, None)  # joins the cluster at RAY_ADDRESS
while pool.size < 2:
    list(pool.completed([]))
    time.sleep(0.1)
    list(pool.completed(Request(np.zeros(4)) for _ in range(2)))
records = search(pool, None, watch)
pool.close()
local = search(LocalPool(quick), None, None)
print(json.dumps({
    "errors": [record["error"] for record in records if record.get("error")],
    "same": [record["loss"] for record in records] == [record["loss"] for record in local],
    "evaluations": len(records),
    "nodes": [record["metrics"]["node"] for record in records],
    "sizes": sizes,
}))
"""

JOINING = """
import sys
from search import RayPool, SearchError

try:
    RayPool(abs, 1, sys.argv[1]).close()
    print("joined")
except SearchError as error:
    print(error)
"""


ON_NODES = """
import ray
from search import RaySession
from search.pools.ray_map import ray_on_nodes

with RaySession() as session:
    session.start(None)
    print(len(set(ray_on_nodes(lambda item: (ray.get_runtime_context().get_node_id(), item), 7))))
"""


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    with Nodes(count=2) as started:
        yield started


def test_a_node_dies_and_another_joins(nodes: Nodes):
    driver = nodes.driver(DRIVER)
    assert driver.stdin is not None and driver.stdout is not None and driver.stderr is not None
    try:
        printed = []
        for line in driver.stdout:
            if line == "KILL\n":
                nodes.kill(1)
            elif line == "ADD\n":
                nodes.add()
            else:
                printed.append(line)
                continue
            driver.stdin.write("\n")
            driver.stdin.flush()
        assert len(printed) == 1, (printed, driver.stderr.read())  # Ray has printed nothing on standard output
    finally:
        driver.kill()
        driver.wait()
    result = json.loads(printed[0])
    assert (result["errors"], result["same"], result["evaluations"]) == ([], True, 360)
    first, last = set(result["nodes"][:60]), set(result["nodes"][-60:])
    assert len(first) == len(last) == 2
    assert len(first & last) == 1  # only the head was there from the beginning to the end
    assert result["sizes"][59] == 2 and 1 in result["sizes"] and result["sizes"][-1] == 2


def test_every_node_is_asked_once(nodes: Nodes):
    assert nodes.drive(ON_NODES) == "2\n"


def test_a_driver_needs_the_token_to_join():
    with Nodes(count=1) as nodes:
        assert nodes.drive(JOINING, nodes.address) == "joined\n"
        del nodes.environ["RAY_ADDRESS"]
        nodes.environ["RAY_AUTH_TOKEN"] = "0" * 64
        nodes.environ["RAY_NUM_REDIS_GET_RETRIES"] = "2"  # about as many seconds
        printed = nodes.drive(JOINING, nodes.address).splitlines()
        assert printed == [
            f"something answers at {nodes.address}, but Ray could not join it",
            "no token, or not the cluster's token, was sent",
            "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to what `ray get-auth-token` prints "
            "on the cluster's head node",
        ]
        nodes.environ["RAY_AUTH_MODE"] = "disabled"
        printed = nodes.drive(JOINING, nodes.address).splitlines()
        assert printed[1] == "RAY_AUTH_MODE is disabled, so no token was sent"
        printed = nodes.drive(JOINING, "127.0.0.1:1").splitlines()
        assert printed == [
            "there is no Ray cluster at 127.0.0.1:1",
            "[Errno 111] Connection refused",
            "start one with `ray start --head`, or leave the address out to use this machine",
        ]
