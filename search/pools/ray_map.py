"""Map of a function over a list on Ray, one Ray task for each item, or over the nodes of a cluster, one for each node.

The results are in the order of the items. An item whose process or node dies is computed again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..errors import SearchError
from .ray_session import RaySession
from .ray_workers import SINGLE_THREAD

Item = TypeVar("Item")
Result = TypeVar("Result")


def ray_map(
    function: Callable[[Item], Result], items: Sequence[Item], address: str | None = None, retries: int = 3
) -> list[Result]:
    """Compute `[function(item) for item in items]`, each item on one CPU of the cluster with single-threaded math.

    The function is sent to each node once, with all that it refers to, so that nodes need no files of this machine.

    Args:
        address: of a Ray cluster to join; None means a Ray of this machine's own.
        retries: how often an item is computed again after its process or node has died.

    Raises:
        SearchError: the function cannot be sent, or an item's process died more often than `retries`.
        Exception: whatever `function` raises is raised unchanged.
    """
    with RaySession() as session:
        session.start(1, address)
        function_ref = put_function(function)
        task = _apply.options(max_retries=retries)
        results = [task.remote(function_ref, list(sys.path), item) for item in items]
        try:
            return ray.get(results)
        except RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from None
        except RayError as error:
            raise SearchError(
                f"a process died {retries + 1} times while it computed one of {len(items)} items\n"
                f"{type(error).__name__}: {str(error).strip().splitlines()[0]}\n"
                "the machine may be short of memory: leave the address out to compute one item after another"
            ) from error
        finally:
            if not session.started:  # otherwise the session shuts Ray down, which ends all tasks
                # Ray may end this process if a task is cancelled just as it finishes: cancel unfinished tasks only.
                for result in ray.wait(results, num_returns=len(results), timeout=0)[1]:
                    ray.cancel(result)


def ray_on_nodes(function: Callable[[Item], Result], item: Item) -> list[Result]:
    """Compute `function(item)` once on each node of the running Ray that has CPUs; nodes that die meanwhile are left out.

    Nothing of a node is reserved, so that this works beside whatever runs there: the function must be a quick one.
    """
    function_ref, results = put_function(function), []
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    there = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
    tasks = [_apply.options(num_cpus=0, scheduling_strategy=node) for node in there]
    for answer in [task.remote(function_ref, list(sys.path), item) for task in tasks]:
        try:
            results.append(ray.get(answer))
        except RayTaskError:
            raise
        except RayError:
            continue
    return results


@ray.remote(num_cpus=1, runtime_env={"env_vars": SINGLE_THREAD})
def _apply(function_ref: list[Any], paths: list[str], item: Any) -> Any:
    # The path is extended first: the function's module may be found only through the path of the calling process.
    sys.path.extend(path for path in paths if path not in sys.path)
    return ray.get(function_ref[0])(item)


def put_function(function: Callable[[Any], Any]) -> list[Any]:
    """Put a function into Ray's object store and return its reference in a list.

    Ray replaces a bare reference among the arguments of a call by its value, but passes on a reference in a list.

    Raises:
        SearchError: it cannot be pickled.
    """
    try:
        return [ray.put(function)]
    except TypeError as error:
        raise SearchError(
            f"the function {function!r} cannot be sent to a node\n"
            f"{str(error).strip().splitlines()[0]}\n"
            "keep open files, locks and generators out of it"
        ) from error
