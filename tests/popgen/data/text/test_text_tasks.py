"""`tasks.json` beside a data set says what it is about, and gives its classes phrases and an order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from text_rows import opinions

from popgen.data import load_data
from popgen.errors import BadInput, BrokenFile, PopgenError

TASK = {
    "description": "Decide whether an opinion is good or bad.",
    "labels": {"good": "a good opinion", "bad": "a bad opinion"},
    "licence": "ours",
}


def beside(path: Path, content: Any) -> str:
    """Write `tasks.json` beside a file; the name of the data set."""
    text = content if isinstance(content, str) else json.dumps(content)
    (path.parent / "tasks.json").write_text(text, encoding="utf-8")
    return f"text:{path}"


@pytest.mark.parametrize("content", [TASK, {"mine": TASK, "other": {"labels": {"x": "y"}}}], ids=["single", "by name"])
def test_a_task_is_found(content: Any, write: Any) -> None:
    path = write("mine.jsonl.gz", opinions(20))
    plain = load_data(f"text:{path}")
    data = load_data(beside(path, content))
    assert data.description == "Decide whether an opinion is good or bad."
    assert (data.classes, data.phrases) == (("good", "bad"), ("a good opinion", "a bad opinion"))
    assert plain.classes == ("bad", "good"), "without an order they are sorted"
    assert data.test.targets.tolist() == (1 - plain.test.targets).tolist()
    assert data.remarks == plain.remarks


def test_a_task_may_lack_either(write: Any) -> None:
    path = write("mine.jsonl", opinions(20))
    data = load_data(beside(path, {"mine": {"description": "Decide."}}))
    assert (data.description, data.phrases, data.classes) == ("Decide.", (), ("bad", "good"))
    data = load_data(beside(path, {"mine": {"labels": TASK["labels"]}}))
    assert (data.description, data.classes) == ("", ("good", "bad"))
    data = load_data(beside(path, {"others": TASK}))
    assert (data.description, data.phrases) == ("", ())
    assert data.remarks[-1] == f"{path.parent / 'tasks.json'} says nothing about 'mine'"


def test_the_task_of_a_folder(write: Any) -> None:
    file = write("set/train.jsonl", opinions(20))
    beside(file, {"set": TASK})
    assert load_data(f"text:{file.parent}").description == TASK["description"]


@pytest.mark.parametrize(
    ("content", "error", "text"),
    [
        ('{"description": ', BrokenFile, "tasks.json cannot be read as JSON\nJSONDecodeError.*\nCorrect it, or move"),
        ([TASK], BadInput, "tasks.json does not describe a task\nit is a list\nWrite {"),
        ({"mine": "words"}, BadInput, "'mine' of .*tasks.json does not describe a task\nit is a str"),
        ({"mine": {"description": 3}}, BadInput, "'mine' of .* does not describe a task\ndescription is a int"),
        ({"mine": {"labels": ["good"]}}, BadInput, "labels are not an object of texts"),
        ({"mine": {"labels": {"good": " ", "bad": "x"}}}, BadInput, "labels are not an object of texts"),
        (
            {"labels": {"good": "x"}},
            BadInput,
            "the labels in .*tasks.json are not the classes of the data\n"
            "they have no phrase for 'bad'; the classes are bad, good\nGive each class one phrase.",
        ),
        (
            {"labels": {"good": "x", "poor": "y"}},
            BadInput,
            "they have no phrase for 'bad' and a phrase for 'poor', no class of the data; the classes are bad, good",
        ),
    ],
)
def test_files_that_are_refused(content: Any, error: type[PopgenError], text: str, write: Any) -> None:
    name = beside(write("mine.jsonl", opinions(20)), content)
    with pytest.raises(error, match=text):
        load_data(name)
