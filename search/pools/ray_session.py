"""Ray for a while: started on this machine, or joined where a cluster is running."""

from __future__ import annotations

import logging
import os
import socket
from typing import Any, Self

import ray

from ..errors import SearchError

REACH_SECONDS = 5.0


class RaySession:
    """Starts or joins Ray at most once, for several pools, and leaves it at the end of the `with` block."""

    def __init__(self) -> None:
        self._started = False

    def start(self, workers: int | None, address: str | None = None) -> None:
        """Join the cluster at `address`, or at RAY_ADDRESS (which a submitted job has), or start Ray on this machine.

        Does nothing where Ray is running already: in a trial of Ray Tune, for one.

        Raises:
            SearchError: nothing answers at the address, or it does not let this process in.
        """
        if ray.is_initialized():
            return
        address = address or os.environ.get("RAY_ADDRESS")
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if not address or address == "local":
            # Without "local", Ray would join any cluster that was started on this machine.
            cpus = max(workers or 1, os.cpu_count() or 1)
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
        else:
            _join(address, quiet)
        self._started = True
        _print_events(False)

    @property
    def started(self) -> bool:
        """Whether Ray was started or joined here, and not before."""
        return self._started

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._started:
            if ray.is_initialized():
                ray.shutdown()  # prints what it has held back
            _print_events(True)
        self._started = False


def _join(address: str, quiet: dict[str, Any]) -> None:
    reached = _check_reachable(address)
    try:
        ray.init(address=address, **quiet)
    except ray.exceptions.AuthenticationError as error:
        raise _refused(address) from error
    except ConnectionError as error:
        if reached:  # Ray says no more than that it could not connect; the reason goes to its log
            raise _refused(address) from error
        raise SearchError(
            f"there is no Ray cluster at {address}\n{str(error).strip().splitlines()[0]}\n"
            "start one with `ray start --head`, or leave the address out to use this machine"
        ) from error


def _check_reachable(address: str) -> bool:
    """Ray itself tries for minutes to reach a cluster that is not there. Returns whether this could be checked."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return False  # `auto`, or another form that Ray resolves
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()
    except OSError as error:
        raise SearchError(
            f"there is no Ray cluster at {address}\n{error}\n"
            "start one with `ray start --head`, or leave the address out to use this machine"
        ) from error
    return True


def _refused(address: str) -> SearchError:
    mode = os.environ.get("RAY_AUTH_MODE")
    sent = mode is not None and mode.lower() == "token"
    why = "no token, or not the cluster's token, was sent" if sent else f"RAY_AUTH_MODE is {mode}, so no token was sent"
    return SearchError(
        f"something answers at {address}, but Ray could not join it\n"
        f"{why}\n"
        "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to what `ray get-auth-token` prints on the cluster's head node"
    )


def _print_events(on: bool) -> None:
    """Ray prints the deaths of workers and nodes on standard output, where results go, and has no public switch."""
    module = ray._private.worker
    if hasattr(module, "_worker_logs_enabled"):
        module._worker_logs_enabled = on
