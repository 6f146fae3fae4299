"""A function over a list on Ray: one task an item, results in order, an item whose node dies is computed again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from ..errors import SearchError
from .ray_session import RaySession
from .ray_workers import SINGLE_THREAD

Item = TypeVar("Item")
Result = TypeVar("Result")


def ray_map(
    function: Callable[[Item], Result], items: Sequence[Item], address: str | None = None, retries: int = 3
) -> list[Result]:
    """`[function(item) for item in items]`, each item on one CPU with single-threaded math, anywhere in the cluster.

    The function is sent to each node once, with all that it holds; nodes need no file of this machine.

    Args:
        address: of a Ray cluster to join; None: a Ray of this machine's own.
        retries: how often an item is computed again whose process or node has died.

    Raises:
        SearchError: the function cannot be sent, or a process died once more than `retries`.
        Exception: what `function` raises, as it is.
    """
    with RaySession() as session:
        session.start(1, address)
        held = hold(function)
        task = _apply.options(max_retries=retries)
        results = [task.remote(held, list(sys.path), item) for item in items]
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
            if not session.started:  # else Ray ends with this session, and all that runs in it
                # Ray ends this process where a task is cancelled that is being completed: only what is not finished is
                for result in ray.wait(results, num_returns=len(results), timeout=0)[1]:
                    ray.cancel(result)


@ray.remote(num_cpus=1, runtime_env={"env_vars": SINGLE_THREAD})
def _apply(held: list[Any], paths: list[str], item: Any) -> Any:
    # The path first: the function's module may be one that only the driver's path leads to.
    sys.path.extend(path for path in paths if path not in sys.path)
    return ray.get(held[0])(item)


def hold(function: Callable[[Any], Any]) -> list[Any]:
    """The function in Ray's store. In a list, so that Ray passes the reference on and does not resolve it.

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
