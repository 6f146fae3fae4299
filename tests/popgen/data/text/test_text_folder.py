"""`folder:FOLDER` reads text files by class, as it reads images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from text_rows import opinions

from popgen.data import load_data
from popgen.data.groups import load_groups
from popgen.errors import BadInput
from popgen.texts import to_texts


def fill(root: Path, count: int, start: int = 0) -> Path:
    for i, row in enumerate(opinions(count, start)):
        (root / row["label"]).mkdir(parents=True, exist_ok=True)
        (root / row["label"] / f"{i:02d}.txt").write_text(row["text"], encoding="utf-8")
    return root


def test_a_folder_by_class(tmp_path: Path) -> None:
    fill(tmp_path, 20)
    (tmp_path / "good" / "00.txt").write_text("\n", encoding="utf-8")
    (tmp_path / "bad" / "01.txt").write_bytes(b"caf\xe9")
    (tmp_path / "bad" / "notes.md").write_text("#", encoding="utf-8")
    task = {"description": "Decide.", "labels": {"good": "well", "bad": "ill"}}
    (tmp_path / "tasks.json").write_text(json.dumps(task), encoding="utf-8")
    data = load_data(f"folder:{tmp_path}")
    assert (data.classes, data.phrases, data.description) == (("good", "bad"), ("well", "ill"), "Decide.")
    assert data.has_texts and sorted(data.unread) == ["bad/01.txt", "good/00.txt"]
    for text, label in zip(to_texts(data.train.inputs), data.train.targets.tolist(), strict=True):
        assert ("lovely" in text) == (label == 0)
    assert data.remarks == (
        "texts read: 18, split here into train, val and test",
        "files passed over: 1 with another suffix (.md), 1 unreadable (bad/01.txt: not UTF-8), 1 empty (good/00.txt)",
    )


def test_folders_of_splits(tmp_path: Path) -> None:
    fill(tmp_path / "train", 20)
    fill(tmp_path / "test", 6, start=2)
    data = load_data(f"folder:{tmp_path}/labels:4")
    assert [len(data.train), len(data.val), len(data.test)] == [4, 4, 6]
    assert data.remarks[0] == "texts read: train 20, test 6; val is cut from train"


def test_what_is_refused(tmp_path: Path) -> None:
    name = f"folder:{fill(tmp_path / 'set', 20)}"
    for modifier in ("size:8", "alpha:black", "rotate:45"):
        with pytest.raises(
            BadInput, match=f"'{modifier}' cannot be applied to .*\nit is for images, and these are texts"
        ):
            load_data(f"{name}/{modifier}")
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "a.txt").write_text("a", encoding="utf-8")
    with pytest.raises(BadInput, match="has no class folders\nexpected FOLDER/CLASS/text.txt or"):
        load_data(f"folder:{tmp_path / 'loose'}")
    for path in (tmp_path / "set").rglob("*.txt"):
        path.write_text(" ", encoding="utf-8")
    with pytest.raises(BadInput, match="has no texts\npassed over: 20 empty"):
        load_data(name)


def test_a_folder_with_images_is_one_of_images(tmp_path: Path) -> None:
    fill(tmp_path, 10)
    for label in ("good", "bad"):
        for i in range(5):
            Image.fromarray(np.full((8, 8), 20 * i, np.uint8)).save(tmp_path / label / f"{i}.png")
    data = load_data(f"folder:{tmp_path}")
    assert data.has_images
    assert data.remarks[1] == "files passed over: 10 with another suffix (.txt)"


def test_groups_by_file(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", 30)
    (root / "good" / "04.txt").write_text("", encoding="utf-8")
    task = {"labels": {"good": "well", "bad": "ill"}}  # not the order of the folders
    (root / "tasks.json").write_text(json.dumps(task), encoding="utf-8")
    files = sorted(root.glob("*/*.txt"))
    number_of = {path.read_text(encoding="utf-8"): int(path.stem) for path in files}
    lines = [f"{path.relative_to(root).as_posix()},g{int(path.stem) % 3}" for path in files]
    (tmp_path / "groups.csv").write_text("\n".join(["file,group", *lines]), encoding="utf-8")
    data = load_data(f"folder:{root}")
    groups = load_groups(data, str(tmp_path / "groups.csv"))
    assert groups.test is not None
    for part, index in ((data.val, groups.index), (data.test, groups.test)):
        assert [groups.names[i] for i in index] == [f"g{number_of[text] % 3}" for text in to_texts(part.inputs)]
    (tmp_path / "groups.csv").write_text("\n".join(["file,group", *lines[:3]]), encoding="utf-8")
    with pytest.raises(
        BadInput, match=r"no group for \d+ of 6 validation texts of .*\n.*\nEvery validation text needs"
    ):
        load_groups(data, str(tmp_path / "groups.csv"))
    with pytest.raises(BadInput, match="not of 'folder:.*/labels:4'\nits validation split has other texts\nGive index"):
        load_groups(load_data(f"folder:{root}/labels:4"), str(tmp_path / "groups.csv"))
