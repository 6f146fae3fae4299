"""A real Ray cluster of several nodes on this machine: each node is a process group of its own, which can be killed.

Nothing here touches the Ray of the test's own process: a test's driver that joins these nodes runs in a process of its
own, through `Nodes.drive`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

START_SECONDS = 60.0
ENDED = signal.SIGKILL


class Nodes:
    """The nodes of one cluster, the head first. Ends them, and their folders, at the end of the `with` block.

    `address` is where a driver joins. `environ` is what a driver needs in its environment: the token, among others.
    A killed node keeps its place in the list, so that the numbers of the others stay.

    Example:
        with Nodes(count=2, cpus=1) as nodes:
            nodes.kill(1)
            nodes.add()
            nodes.drive("import ray; ray.init(); print(ray.cluster_resources()['CPU'])")
    """

    def __init__(self, count: int = 2, cpus: int = 1) -> None:
        self._count, self._cpus = count, cpus
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._folder = Path()
        self.address = ""
        self.environ: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="n", dir="/tmp"))  # short: a socket's path has 107 characters
        self.address = f"127.0.0.1:{free_port()}"
        self.environ = {
            "RAY_ADDRESS": self.address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "RAY_health_check_period_ms": "500",  # a killed node is noticed in two seconds, not in half a minute
            "RAY_health_check_timeout_ms": "1000",
            "RAY_health_check_failure_threshold": "3",
        }
        try:
            for _ in range(self._count):
                self.add()
        except BaseException:
            self.__exit__()
            raise
        return self

    def add(self, cpus: int | None = None) -> int:
        """Start one more node and wait until it is up; returns its number. Number 0 is the head."""
        number = len(self._nodes)
        temp = self._folder / str(number)
        temp.mkdir()
        port = self.address.rpartition(":")[2]
        role = (
            ["--head", f"--port={port}", "--include-dashboard=false"] if number == 0 else [f"--address={self.address}"]
        )
        ray = Path(sys.executable).with_name("ray")
        command = [
            str(ray), "start", *role, "--block", "--node-ip-address=127.0.0.1", f"--temp-dir={temp}",
            f"--num-cpus={self._cpus if cpus is None else cpus}", "--num-gpus=0",
            f"--object-store-memory={100 * 2**20}", "--disable-usage-stats",
        ]  # fmt: skip
        environ = self._environ()
        del environ["RAY_ADDRESS"]  # else the head takes itself for a joining node
        log = temp / "out"
        with log.open("wb") as out:
            node = subprocess.Popen(command, env=environ, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        self._nodes.append(node)
        until = time.monotonic() + START_SECONDS
        while b"Ray runtime started" not in log.read_bytes():
            if node.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"node {number} did not start:\n{log.read_text()}")
            time.sleep(0.05)
        return number

    def kill(self, number: int) -> None:
        """End a node with all its processes, at once and without a word, as a power cut would."""
        node = self._nodes[number]
        for group in _groups_of_session(node.pid):
            os.killpg(group, ENDED)
        node.wait()

    def drive(self, source: str, *arguments: str, timeout: float = 120.0) -> str:
        """Run Python `source` in a new process that would join this cluster; returns what it printed.

        Raises:
            AssertionError: it failed; the message has its standard error.
        """
        driver = self.driver(source, *arguments)
        try:
            said, complaint = driver.communicate(timeout=timeout)
        finally:
            driver.kill()
        assert driver.returncode == 0, complaint
        return said

    def driver(self, source: str, *arguments: str) -> subprocess.Popen[str]:
        """The same, going on in the background, with pipes for its input and output."""
        command = [sys.executable, "-c", source, *arguments]
        return subprocess.Popen(
            command,
            env=self._environ(),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def _environ(self) -> dict[str, str]:
        return {**os.environ, **self.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}

    def __exit__(self, *_: object) -> None:
        for number in reversed(range(len(self._nodes))):
            self.kill(number)
        shutil.rmtree(self._folder, ignore_errors=True)


def free_port() -> int:
    """A port of the loopback that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _groups_of_session(session: int) -> set[int]:
    """The process groups of a session: Ray puts its workers into groups of their own, and they must go, too."""
    found = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                after_name = (process / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended meanwhile
                continue
            if int(after_name[3]) == session:
                found.add(int(after_name[2]))
    return found
