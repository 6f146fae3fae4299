"""Runs popgen's commands in a process of their own that talks to a hub of the tests: the client reads its settings on import."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Client:
    """A process that runs one command after the other, each as a new process would find the hub."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, *arguments: object, code: int | None = 0, token: str | None = None) -> Answer:
        """Run `popgen ARGUMENTS`; a `code` of None takes any, `token` replaces that of the client."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"arguments": [str(one) for one in arguments], "token": token}) + "\n")
        self._process.stdin.flush()
        answer = Answer(**json.loads(self._process.stdout.readline()))
        assert code is None or answer.code == code, f"exit code {answer.code}\n{answer.err}{answer.out}"
        return answer


@contextmanager
def open_client(environment: Mapping[str, str], folder: Path) -> Iterator[Client]:
    """Start a client whose current folder is `folder`, and end it with the block."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    process = subprocess.Popen(
        [sys.executable, __file__],
        env=own | dict(environment),
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Client(process)
    finally:
        process.communicate()


def _serve() -> None:
    from popgen.__main__ import run
    from popgen.hub import download

    answers = sys.stdout
    for line in sys.stdin:
        asked = json.loads(line)
        before = os.environ.get("HF_TOKEN")
        if asked["token"] is not None:
            os.environ["HF_TOKEN"] = asked["token"]
        download.forget()
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(asked["arguments"])
        os.environ.pop("HF_TOKEN", None)
        os.environ |= {} if before is None else {"HF_TOKEN": before}
        print(json.dumps({"code": code, "out": out.getvalue(), "err": err.getvalue()}), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
