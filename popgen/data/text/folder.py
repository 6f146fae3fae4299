"""Reads `folder:FOLDER` of texts: a folder of .txt files for each class, with or without folders for the splits above them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from popgen.data.dataset import DataSet
from popgen.data.sources.listing import IMAGES, TEXTS, is_hidden, list_folder
from popgen.data.text.make import Example, make_texts
from popgen.data.text.tasks import TASKS_FILE, read_task


def holds_texts(root: Path) -> bool:
    """Whether a folder has text files and no images, anywhere below it."""
    files = (path for path in root.rglob("*") if not is_hidden(path.name) and path.name != TASKS_FILE)
    suffixes = {path.suffix.lower() for path in files}
    return bool(suffixes & TEXTS.suffixes) and not suffixes & IMAGES.suffixes


def load_text_folder(name: str, root: Path) -> DataSet:
    """Load text files `root/{train,val,test}/CLASS/text`, or `root/CLASS/text`, which are split here.

    Each file is one text in UTF-8. Files that cannot be read or are empty are passed over. Remarks say how many texts were read
    and what was passed over. `root/tasks.json` may describe the task (see `popgen.data.text.tasks`).

    Raises:
        BrokenFile: a folder or `tasks.json` cannot be read.
        BadInput: the folder has another layout or no texts, or `tasks.json` does not fit.
    """
    task, listing = read_task(root), list_folder(root, TEXTS)
    examples: dict[str, list[Example]] = {split: [] for split in listing.files}
    unread = []
    for split, files in listing.files.items():
        for path, label in files:
            where = path.relative_to(root).as_posix()
            try:
                text = path.read_text(encoding="utf-8-sig")
                examples[split].append(Example(text, None, label, where))
                unread += [] if text.strip() else [where]
            except (OSError, UnicodeDecodeError) as error:
                why = "not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror or str(error)
                unread.append(where)
                listing.passed_over[split].add("unreadable", f"{where}: {why}")
    data = make_texts(name, listing.classes, examples, listing.passed_over, task, "files")
    return replace(data, unread=tuple(unread))
