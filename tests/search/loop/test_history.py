"""The history of a search on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import History, Record, RunLocked, SearchError

finite = st.floats(allow_nan=False, allow_infinity=False)


def record(index: int, loss: float | None = 1.0, coordinates: list[float] | None = None) -> Record:
    return Record(
        index=index, candidate=index, asked=index + 1, batch=index // 2, phase="search", origin="CMA",
        coordinates=coordinates, share=1.0, cost=1.0, loss=loss, values=None, metrics={"accuracy": 0.5},
        seconds=0.1, elapsed=1.0, error=None,
    )  # fmt: skip


def filled(path: Path, key: str = "net", count: int = 3) -> None:
    with History(path, key) as history:
        history.begin({"settings": {"seed": 0}})
        for index in range(count):
            history.append(record(index))


@settings(max_examples=20, deadline=None)
@given(finite, st.lists(finite, max_size=5))
def test_floats_round_trip(tmp_path_factory: pytest.TempPathFactory, loss: float, coordinates: list[float]):
    path = tmp_path_factory.mktemp("history") / "history.jsonl"
    with History(path, "net") as history:
        history.begin({})
        history.append(record(0, loss, coordinates))
    with History(path, "net") as history:
        assert history.records == [record(0, loss, coordinates)]


def test_searches_share_a_file(tmp_path):
    path = tmp_path / "history.jsonl"
    filled(path, "one", 2)
    filled(path, "two", 3)
    with History(path, "one") as history:
        history.append(record(2))
        assert [r.index for r in history.records] == [0, 1, 2]
    with History(path, "three") as history:
        assert (history.header, history.records) == (None, [])
    line = json.loads(path.read_text().splitlines()[1])
    assert (line["v"], line["search"], line["phase"], line["error"]) == (2, "one", "search", None)


@pytest.mark.parametrize("torn", [b'{"v":2,"sea', b"\xff"])
def test_torn_last_line_is_cut_off(tmp_path, torn: bytes):
    path = tmp_path / "history.jsonl"
    filled(path)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    with History(path, "net") as history:
        assert len(history.records) == 3
    assert path.read_bytes() == whole
    path.write_bytes(whole[:-1])
    with History(path, "net") as history:
        assert len(history.records) == 2


def test_metrics_that_json_cannot_hold(tmp_path):
    path = tmp_path / "history.jsonl"
    with History(path, "net") as history:
        history.begin({})
        history.append(replace(record(0), metrics={"auc": float("nan")}))
    with History(path, "net") as history:
        assert history.records[0].metrics == {"auc": None}


def test_locked(tmp_path):
    path = tmp_path / "history.jsonl"
    code = f"from search import History\nHistory({str(path)!r}, 'net')"
    with History(path, "net"), pytest.raises(RunLocked) as caught:
        History(path, "other")
    assert str(caught.value) == (
        f"{path} is being written by another search\n"
        "history.jsonl.lock is locked\n"
        "wait for it, stop it, or use another folder"
    )
    with History(path, "net"):
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "RunLocked" in other.stderr
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1]", "line 5 is not a record of a search"),
        ("plain text", "line 5 is not a record of a search"),
        ('{"v":1,"search":"net"}', "line 5 has schema 1\nthis version reads schema 2"),
        ('{"v":2,"search":"net","header":[1]}', "line 5 has missing, unknown or damaged fields"),
        ('{"v":2,"search":"net","header":{"settings":3}}', "settings: Input should be a valid dictionary"),
        ("[" * 100_000, "line 5 is not a record of a search\nRecursionError"),
        (
            '{"v":2,"search":"net","index":3}',
            "line 5 has missing, unknown or damaged fields\ncandidate: Field required",
        ),
        (None, "line 5: evaluation 1 stands where 3 should"),
    ],
)
def test_other_files_are_refused(tmp_path, line: str | None, message: str):
    path = tmp_path / "history.jsonl"
    filled(path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[2] if line is None else line]) + "\n")
    for _ in range(2):  # a refusal releases the lock
        with pytest.raises(SearchError) as caught:
            History(path, "net")
        assert message in str(caught.value)
