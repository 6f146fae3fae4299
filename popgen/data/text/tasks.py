"""Reads `tasks.json`: what a data set of texts is about, and a phrase for each of its classes.

The file stands beside the file of a data set, or in its folder. It holds an object for each task, whose key is the name of the
data set's file without suffixes or that of its folder, or one such object alone: {"description": "...", "labels": {CLASS: PHRASE}}.
Other keys are ignored. The order of `labels` is that of the classes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from popgen.data.text.table import stem_of
from popgen.errors import BadInput, BrokenFile, brief

TASKS_FILE = "tasks.json"


@dataclass(frozen=True)
class TextTask:
    """A task in words: its description, and a phrase for each class; both may be empty."""

    description: str = ""
    phrases: dict[str, str] = field(default_factory=dict)
    file: Path = Path(TASKS_FILE)  # for errors
    remarks: tuple[str, ...] = ()

    def order(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        """The classes in the order of the phrases, where there are phrases.

        Raises:
            BadInput: the phrases are not those of exactly these classes.
        """
        lacks = [name for name in classes if name not in self.phrases]
        extra = [name for name in self.phrases if name not in classes]
        if self.phrases and (lacks or extra):
            wrong = [f"no phrase for {', '.join(map(repr, lacks))}"] if lacks else []
            wrong += [f"a phrase for {', '.join(map(repr, extra))}, no class of the data"] if extra else []
            raise BadInput(
                f"the labels in {self.file} are not the classes of the data",
                f"they have {' and '.join(wrong)}; the classes are {', '.join(classes)}",
                "Give each class one phrase.",
            )
        return tuple(self.phrases) or classes


def tasks_file(path: Path) -> Path:
    """The `tasks.json` of a data set: beside its file, or in its folder."""
    return (path if path.is_dir() else path.parent) / TASKS_FILE


def read_task(path: Path, stem: str | None = None) -> TextTask:
    """Read what `tasks.json` says about the data set in a file or a folder; empty where there is no such file.

    Args:
        stem: the data set's key in it; None: the name of the table or folder without suffixes.

    Raises:
        BrokenFile: the file cannot be read, or is no JSON.
        BadInput: it does not hold what it should.
    """
    file, stem = tasks_file(path), stem or stem_of(path.absolute())
    if not file.is_file():
        return TextTask()
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise BrokenFile(f"{file} cannot be read as JSON", brief(error), "Correct it, or move it away.") from error
    if not isinstance(content, dict):
        raise _misfit(file, "", f"it is a {type(content).__name__}")
    is_single = isinstance(content.get("description"), str) or (
        isinstance(content.get("labels"), dict) and all(isinstance(v, str) for v in content["labels"].values())
    )
    if is_single:
        return _task(file, "", content)
    if stem not in content:
        return TextTask(remarks=(f"{file} says nothing about {stem!r}",))
    return _task(file, stem, content[stem])


def _task(file: Path, stem: str, content: Any) -> TextTask:
    """Check one task of a file."""
    if not isinstance(content, dict):
        raise _misfit(file, stem, f"it is a {type(content).__name__}")
    description, labels = content.get("description", ""), content.get("labels", {})
    if not isinstance(description, str):
        raise _misfit(file, stem, f"description is a {type(description).__name__}")
    if not isinstance(labels, dict) or not all(isinstance(v, str) and v.strip() for v in labels.values()):
        raise _misfit(file, stem, "labels are not an object of texts")
    return TextTask(description.strip(), {key: phrase.strip() for key, phrase in labels.items()}, file)


def _misfit(file: Path, stem: str, why: str) -> BadInput:
    todo = 'Write {"description": "what is decided", "labels": {"CLASS": "a phrase"}}, or move the file away.'
    return BadInput(f"{f'{stem!r} of ' if stem else ''}{file} does not describe a task", why, todo)
