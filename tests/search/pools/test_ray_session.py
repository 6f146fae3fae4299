"""Starting Ray on this machine: a folder whose path is too long for its sockets is refused with what to set."""

from __future__ import annotations

from pathlib import Path

import pytest

from search import RaySession, SearchError


def test_a_long_temporary_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if ray.is_initialized():
        ray.shutdown()
    with RaySession() as session, pytest.raises(SearchError) as refused:
        session.start(1)
    what, why, todo = str(refused.value).splitlines()
    assert what == f"Ray cannot work in {folder}"
    assert "107 bytes" in why
    assert todo.startswith("set RAY_TMPDIR to a short folder")
