"""A real Ray cluster of several nodes on this machine. Each node is a session of processes that can be killed.

The Ray of the test process is not touched: a driver that joins the nodes runs in a process of its own, started by
`Nodes.drive`.
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
    """The nodes of one cluster, the head first. The `with` block ends them and removes their folders.

    A driver joins at `address` and needs `environ` in its environment, which holds the token, among others. The other
    nodes keep their numbers when a node is killed.

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
        # A short path: that of a socket has at most 107 characters.
        self._folder = Path(tempfile.mkdtemp(prefix="n", dir="/tmp"))
        self.address = f"127.0.0.1:{free_port()}"
        self.environ = {
            "RAY_ADDRESS": self.address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "RAY_health_check_period_ms": "500",  # so a killed node is noticed after two seconds instead of 30
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
        """Start one more node, wait until it is up, and return its number. Number 0 is the head."""
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
        del environ["RAY_ADDRESS"]  # with it, the head would try to join a cluster
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
        """Kill all processes of a node at once, as a power cut would."""
        node = self._nodes[number]
        for group in _groups_of_session(node.pid):
            os.killpg(group, ENDED)
        node.wait()

    def drive(self, source: str, *arguments: str, timeout: float = 120.0) -> str:
        """Run Python `source` as a driver in a new process; return what it printed.

        Raises:
            AssertionError: the driver failed; the message is its standard error.
        """
        driver = self.driver(source, *arguments)
        try:
            out, error = driver.communicate(timeout=timeout)
        finally:
            driver.kill()
        assert driver.returncode == 0, error
        return out

    def driver(self, source: str, *arguments: str) -> subprocess.Popen[str]:
        """Start Python `source` as a driver in a new process, with pipes for its input, output and errors."""
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
    """Return a port of the loopback interface at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _groups_of_session(session: int) -> set[int]:
    """Return the process groups of a session: Ray puts workers into groups of their own, which must end, too."""
    found = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                after_name = (process / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # the process has ended in the meantime
                continue
            if int(after_name[3]) == session:
                found.add(int(after_name[2]))
    return found
