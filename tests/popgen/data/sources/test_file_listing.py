"""Folders of images: what is a split, a class or an image, and what is passed over, is decided and said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from popgen.data import load_data
from popgen.data.sources.listing import list_folder
from popgen.errors import BadInput, NotFound


def make(root: Path, *folders: str, count: int = 2) -> Path:
    """Write images, all of them different, into the folders."""
    for i, folder in enumerate(folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for j in range(count):
            pixels = np.arange(12, dtype=np.uint8).reshape(3, 4) + 16 * i + j
            Image.fromarray(pixels).save(root / folder / f"{j}.png")
    return root


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("Train", "Val", "Test"),
        ("TRAIN", "valid", "testing"),
        ("training", "Validation", "test"),
        ("train", "dev", "TEST"),
    ],
)
def test_splits_go_by_their_usual_names_in_any_case(tmp_path: Path, names: tuple[str, str, str]) -> None:
    make(tmp_path, *(f"{name}/{label}" for name in names for label in ("ant", "bee")))
    listing = list_folder(tmp_path)
    assert listing.classes == ("ant", "bee")
    assert {split: len(files) for split, files in listing.files.items()} == {"train": 4, "val": 4, "test": 4}
    data = load_data(f"folder:{tmp_path}")
    assert data.remarks == ("images read: train 4, val 4, test 4",)
    assert (len(data.train), len(data.val), len(data.test)) == (4, 4, 4)


def test_what_is_cut_from_train_is_said(tmp_path: Path) -> None:
    make(tmp_path / "both", "train/a", "train/b", count=5)
    make(tmp_path / "one", "train/a", "train/b", "test/a", count=5)
    assert load_data(f"folder:{tmp_path / 'both'}").remarks == (
        "images read: train 10; val and test are cut from train",
    )
    assert load_data(f"folder:{tmp_path / 'one'}").remarks == ("images read: train 10, test 5; val is cut from train",)


def test_two_folders_that_mean_one_split_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "train/a", "val/a", "valid/a")
    with pytest.raises(BadInput, match="has two splits that mean val: val and valid"):
        list_folder(tmp_path)


def test_classes_may_be_called_like_splits(tmp_path: Path) -> None:
    make(tmp_path, "valid", "invalid")
    assert list_folder(tmp_path).classes == ("invalid", "valid")


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "Valid"), ("training",)])
def test_splits_without_class_folders_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    make(tmp_path, *names)
    with pytest.raises(BadInput, match="no class folders"):
        list_folder(tmp_path)


def test_hidden_folders_are_never_classes_or_splits(tmp_path: Path) -> None:
    make(tmp_path, "train/a", "train/b", "train/.ipynb_checkpoints", "train/__MACOSX", "__MACOSX/a", "val/a", "val/b")
    make(tmp_path, "test/a", "test/b")
    (tmp_path / "train" / "a" / "._0.png").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / ".DS_Store").write_bytes(b"")
    data = load_data(f"folder:{tmp_path}")
    assert data.classes == ("a", "b")
    assert data.remarks == (
        "images read: train 4, val 4, test 4",
        "train: files passed over: 8 hidden (.DS_Store, __MACOSX, a/._0.png, ...)",
    )


def test_everything_that_is_passed_over_is_counted_by_reason(tmp_path: Path) -> None:
    make(tmp_path, "train/a", "train/b", "val/a", "val/b", "val/three", "test/a", "test/b")
    make(tmp_path, "train/a/more", "extra/a", count=3)
    (tmp_path / "train" / "a" / "notes.txt").write_text("")
    (tmp_path / "train" / "a" / "0.gif").write_text("")
    (tmp_path / "train" / "labels.csv").write_text("")
    (tmp_path / "test" / "b" / "9.png").write_bytes(b"")
    data = load_data(f"folder:{tmp_path}")
    assert data.remarks == (
        "images read: train 4, val 4, test 4",
        "train: files passed over: 3 outside the splits (extra), 2 with another suffix (.gif, .txt), "
        "3 in sub-folders of classes (a/more), 1 outside the class folders (labels.csv)",
        "val: files passed over: 2 in classes that train does not have (three)",
        "test: files passed over: 1 unreadable (test/b/9.png: the file is empty)",
    )


def test_a_split_without_images_says_what_it_has(tmp_path: Path) -> None:
    make(tmp_path, "train/images/a")
    with pytest.raises(BadInput) as caught:
        list_folder(tmp_path)
    assert caught.value.why.endswith("in 1 class folders; passed over: 2 in sub-folders of classes (images/a)")


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "pets", "a", "b", count=5)
    np.savez(tmp_path / "pets.npz", x=np.zeros((10, 4, 4), np.uint8), y=np.arange(10) % 2)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_data("folder:~/pets/size:4").name == "folder:~/pets/size:4"
    assert len(load_data("npz:~/pets.npz").train) == 6


def test_names_that_no_system_can_look_up() -> None:
    for prefix in ("folder:", "npz:", "hf:a/b/"):
        with pytest.raises(NotFound):
            load_data(f"{prefix}{'x' * 5000}/size:8")
