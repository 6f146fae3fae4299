"""The text tasks beside the project load with their descriptions and phrases. Skipped where the files are absent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from popgen.data import describe, load_data
from popgen.texts import split_pair, to_texts

REAL = Path(__file__).parents[3] / "shared" / "data" / "text"

pytestmark = [pytest.mark.real, pytest.mark.skipif(not REAL.exists(), reason="needs the text tasks")]
NAMES = sorted(path.name.removesuffix(".jsonl.gz") for path in REAL.glob("*.jsonl.gz"))


def test_all_tasks_are_there() -> None:
    assert len(NAMES) == 19


@pytest.mark.parametrize("name", NAMES)
def test_a_task_loads_as_it_is_described(name: str) -> None:
    task = json.loads((REAL / "tasks.json").read_text())[name]
    data = load_data(f"text:{REAL / name}.jsonl.gz")
    assert data.description == task["description"] == describe(data.name, data.description)
    assert dict(zip(data.classes, data.phrases, strict=True)) == task["labels"]
    assert [len(data.train), len(data.val), len(data.test)] == task["sizes"]
    pairs = {split_pair(text)[1] is not None for text in to_texts(data.train.inputs)}
    assert pairs == {task["pair"]}
    majority = int(data.test.targets.bincount().max()) / len(data.test)
    assert majority == pytest.approx(task["majority"], abs=5e-4)
    few = load_data(f"{data.name}/labels:16")
    assert few.val is few.train and len(few.train.targets.unique()) == len(data.classes)
    assert len(data.remarks) == 1, "no text stands in two splits"
