"""A session of Ray: started on this machine, or joined if a cluster is running. Ray is imported when it is started."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from typing import Any, Self

from ..errors import SearchError

NICENESS = "worker_niceness"  # the setting of Ray; RAY_worker_niceness in the environment is the user's own choice
CONNECT_SECONDS = 5.0  # timeout of the connection that shows whether anything listens at an address


class RaySession:
    """Starts or joins Ray at most once, for one pool or several, and shuts it down at the end of the `with` block."""

    def __init__(self) -> None:
        self._started = False

    def start(self, workers: int | None, address: str | None = None) -> None:
        """Join the cluster at `address`, or at RAY_ADDRESS, or else start Ray on this machine.

        RAY_ADDRESS is set in the environment of a job that was submitted to a cluster. If Ray is running in this
        process already, as in a trial of Ray Tune, nothing is done.

        Workers of a Ray that is started here have the niceness of this process. Ray itself would add 15 to it, so that
        any other program on the machine would all but stop them.

        Args:
            workers: lower bound on the number of CPUs of a Ray that is started on this machine.
            address: of a running cluster, as HOST:PORT; "local" starts Ray here whatever RAY_ADDRESS says.

        Raises:
            SearchError: nothing answers at the address, the cluster refuses this process, or the paths of the sockets of
                a Ray on this machine would be too long.
        """
        import ray

        if ray.is_initialized():
            return
        address = address or os.environ.get("RAY_ADDRESS")
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if not address or address == "local":
            # Without address="local", Ray would join any cluster that was started on this machine.
            cpus = max(workers or 1, os.cpu_count() or 1)
            settings = {} if f"RAY_{NICENESS}" in os.environ else {NICENESS: 0}  # what Ray adds to this process's
            try:
                ray.init(address="local", num_cpus=cpus, include_dashboard=False, _system_config=settings, **quiet)
            except OSError as error:
                if "AF_UNIX path length" not in str(error):
                    raise
                raise _long_folder() from error
        else:
            _join(address, quiet)
        self._started = True
        _print_events(False)

    @property
    def started(self) -> bool:
        """Whether this session started or joined Ray, so that it also shuts it down."""
        return self._started

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._started:
            import ray

            if ray.is_initialized():
                ray.shutdown()  # prints the messages that it has held back
            _print_events(True)
        self._started = False


def _join(address: str, quiet: dict[str, Any]) -> None:
    import ray

    reached = _check_reachable(address)
    try:
        ray.init(address=address, **quiet)
    except ray.exceptions.AuthenticationError as error:
        raise _refused(address) from error
    except ConnectionError as error:
        if reached:  # Ray says only that it could not connect, and writes the reason to its log
            raise _refused(address) from error
        raise SearchError(
            f"there is no Ray cluster at {address}\n{str(error).strip().splitlines()[0]}\n"
            "start one with `ray start --head`, or leave the address out to use this machine"
        ) from error


def _check_reachable(address: str) -> bool:
    """Refuse an address at which nothing listens: Ray itself would try for minutes to connect.

    Returns False if the address is not of the form HOST:PORT, so that this cannot be checked.

    Raises:
        SearchError: nothing listens at the address.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return False  # "auto", or another form that only Ray can resolve
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise SearchError(
            f"there is no Ray cluster at {address}\n{error}\n"
            "start one with `ray start --head`, or leave the address out to use this machine"
        ) from error
    return True


def _long_folder() -> SearchError:
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    return SearchError(
        f"Ray cannot work in {folder}\n"
        "the paths of its sockets there are longer than the 107 bytes that the system allows\n"
        "set RAY_TMPDIR to a short folder on this machine, for example RAY_TMPDIR=/tmp"
    )


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
    """Switch Ray's messages about the deaths of workers and nodes on or off.

    Ray prints them on standard output, which is for results, and has no public switch.
    """
    import ray

    module = ray._private.worker
    if hasattr(module, "_worker_logs_enabled"):
        module._worker_logs_enabled = on
