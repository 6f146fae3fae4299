"""Zoos without any checkpoint, which a build or an import leaves that fails before its first one: they hold nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FILES = ("references.safetensors", "columns.json", "index.jsonl", "zoo.json")


@contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove the zoo that the block makes in `folder` if it has no checkpoint at the end, however the block ends.

    A zoo that was there before is left as it is.

    >>> import tempfile
    >>> from popgen.zoo import Zoo
    >>> folder = Path(tempfile.mkdtemp(), "zoo")
    >>> with removed_if_empty(folder):
    ...     zoo = Zoo.create(folder, "none")
    >>> folder.exists()
    False
    """
    had_zoo, had_folder = (folder / "zoo.json").exists(), folder.exists()
    try:
        yield
    finally:
        if not had_zoo and is_empty(folder):
            remove_empty(folder)
            if not had_folder and not any(folder.iterdir()):
                folder.rmdir()


def is_empty(folder: Path) -> bool:
    """Whether a folder holds a zoo whose index has no line, not even an incomplete one."""
    index = folder / "index.jsonl"
    return (folder / "zoo.json").exists() and index.exists() and index.stat().st_size == 0


def remove_empty(folder: Path) -> None:
    """Remove the files of a zoo without checkpoints; the folder and what else is in it stay."""
    if (folder / "shards").is_dir():
        shutil.rmtree(folder / "shards")
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)
