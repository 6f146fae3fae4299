"""Lists the images or texts of `folder:FOLDER`: a folder for each class, with or without folders for the splits above them.

A split's folder is called train, val or test, or by another usual name of these (see `popgen.data.sources.splits`).
Names that begin with a dot, and `__MACOSX`, are hidden: they are never classes or images. Everything that is passed
over is counted with its reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from popgen.data.sources.splits import PassedOver, name_splits, split_of
from popgen.errors import BadInput, BrokenFile

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
_SPLIT_FOLDERS = ("train", "val", "test")  # these are splits even if they have no folders


@dataclass(frozen=True)
class Kind:
    """A kind of examples that a folder holds: what they are called, their suffixes, and files of a folder that are none of them."""

    noun: str
    suffixes: frozenset[str]
    example: str
    beside: frozenset[str] = frozenset()


IMAGES = Kind("images", frozenset(SUFFIXES), "image.png")
TEXTS = Kind("texts", frozenset({".txt"}), "text.txt", frozenset({"tasks.json"}))


@dataclass(frozen=True)
class Listing:
    """The class names of a folder, and the files of each split with their labels, in reading order.

    A folder without splits has the single split `all`.
    """

    classes: tuple[str, ...]
    files: dict[str, list[tuple[Path, int]]]
    passed_over: dict[str, PassedOver]


def list_folder(root: Path, kind: Kind = IMAGES) -> Listing:
    """List the examples of a folder by split and class.

    Raises:
        BadInput: `root` is not a folder that has a folder of examples for each class, or two folders are the same split.
        BrokenFile: a folder cannot be listed.
    """
    try:
        return _listed(root, kind)
    except OSError as error:
        raise BrokenFile(
            f"{error.filename or root} cannot be listed",
            error.strerror or str(error),
            "Check the folder and the rights to read it.",
        ) from error


def _listed(root: Path, kind: Kind) -> Listing:
    if not root.is_dir():
        raise BadInput(f"{root} is not a folder", "folder: reads a folder per class", "Use npz: for an .npz file.")
    roots = _split_folders(root, kind)
    classes = tuple(p.name for p in _folders(roots.get("train", root)))
    if not classes:
        raise BadInput(
            f"{root} has no class folders",
            f"expected FOLDER/CLASS/{kind.example} or FOLDER/train/CLASS/{kind.example}",
            "",
        )
    passed_over = {split: PassedOver() for split in roots}
    if "train" in roots:
        _pass_over_loose(
            root,
            {*(folder.name for folder in roots.values()), *kind.beside},
            passed_over["train"],
            "outside the splits",
        )
    files = {split: _list_examples(folder, classes, passed_over[split], kind) for split, folder in roots.items()}
    return Listing(classes, files, passed_over)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, as those of Jupyter and macOS are.

    >>> is_hidden(".ipynb_checkpoints"), is_hidden("__MACOSX"), is_hidden("cat")
    (True, True, False)
    """
    return name.startswith(".") or name == "__MACOSX"


def _folders(root: Path) -> list[Path]:
    """The folders in `root` that are not hidden, sorted by name."""
    return sorted(p for p in root.iterdir() if p.is_dir() and not is_hidden(p.name))


def _split_folders(root: Path, kind: Kind) -> dict[str, Path]:
    """The folder of each split, in the order train, val, test; or `root` as `all` if it has no splits."""
    folders = _folders(root)
    named = [p for p in folders if split_of(p.name) and (p.name in _SPLIT_FOLDERS or _folders(p))]
    if not named and folders and all(split_of(p.name) for p in folders):
        raise BadInput(
            f"{', '.join(p.name for p in folders)} of {root} have no class folders",
            "their names are those of splits, and a split has a folder for each class",
            f"Expected FOLDER/train/CLASS/{kind.example}.",
        )
    if not named:
        return {"all": root}
    splits = name_splits(f"folder:{root}", [p.name for p in named])
    if "train" not in splits:
        raise BadInput(
            f"{root} has {', '.join(s for s in _SPLIT_FOLDERS if s in splits)} but no train folder",
            "",
            "Add it, or keep only class folders.",
        )
    return {split: root / splits[split] for split in _SPLIT_FOLDERS if split in splits}


def _list_examples(root: Path, classes: tuple[str, ...], passed: PassedOver, kind: Kind) -> list[tuple[Path, int]]:
    """List the examples of one split, and count what is passed over in it."""
    found = [(path, i) for i, name in enumerate(classes) for path in _class_files(root / name, passed, kind)]
    for folder in _folders(root):
        if folder.name not in classes:
            passed.add("in classes that train does not have", folder.name, _count_files(folder))
    _pass_over_loose(root, {*(p.name for p in _folders(root)), *kind.beside}, passed, "outside the class folders")
    if not found:
        others = f"; passed over: {passed.text()}" if passed.text() else ""
        raise BadInput(
            f"{root} holds no {kind.noun}",
            f"looked for {', '.join(sorted(kind.suffixes))} in {len(classes)} class folders{others}",
            "",
        )
    return found


def _class_files(folder: Path, passed: PassedOver, kind: Kind) -> Iterator[Path]:
    """The examples of one class, sorted by name; what else is there is counted."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        inside = f"{folder.name}/{path.name}"
        if is_hidden(path.name):
            passed.add("hidden", inside, _count_files(path))
        elif path.is_dir():
            passed.add("in sub-folders of classes", inside, _count_files(path))
        elif path.suffix.lower() not in kind.suffixes:
            passed.add("with another suffix", path.suffix or path.name)
        else:
            yield path


def _pass_over_loose(root: Path, known: set[str], passed: PassedOver, reason: str) -> None:
    """Count the files in `root` that are in none of its `known` folders."""
    for path in sorted(root.iterdir()):
        if is_hidden(path.name):
            passed.add("hidden", path.name, _count_files(path))
        elif path.name not in known:
            passed.add(reason, path.name, _count_files(path))


def _count_files(path: Path) -> int:
    """The number of files below a folder, or 1 if `path` is a file itself."""
    return sum(len(files) for _, _, files in os.walk(path)) if path.is_dir() else 1
