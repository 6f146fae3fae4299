"""An empty data folder for tests of named data sets."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest


def no_network(*_: object, **__: object) -> None:
    raise socket.gaierror("there is no network in this test")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder; there is no network."""
    monkeypatch.setenv("POPGEN_DATA", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    return tmp_path
