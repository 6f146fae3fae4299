"""Flat folders of images without labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from popgen.data.unlabelled import load_images
from popgen.errors import BadInput, NotFound

CLASSES = ("cat", "dog")


def write(folder: Path, count: int, side: int = 8) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(side)
    for number in range(count):
        pixels = draw.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{side}-{number}.png")


def test_a_flat_folder_is_read_and_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    write(tmp_path, 5)
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / ".DS_Store").write_bytes(b"")
    (tmp_path / ".cache").mkdir()
    data, labelled = load_images(f"folder:{tmp_path}", CLASSES)
    assert not labelled
    assert data.classes == CLASSES and data.train is data.val is data.test
    assert data.train.inputs.shape == (5, 3, 8, 8) and set(data.train.targets.tolist()) == {-1}
    text = "\n".join(data.remarks)
    assert "images read: 5, without labels" in text
    assert "1 unreadable (broken.png: it is none of PNG" in text and "1 with another suffix (.txt)" in text


def test_images_of_several_sizes_are_brought_to_that_of_the_network(tmp_path: Path) -> None:
    write(tmp_path, 2, side=8)
    write(tmp_path, 2, side=20)
    assert load_images(f"folder:{tmp_path}", CLASSES, 8)[0].shape == (3, 8, 8)
    assert load_images(f"folder:{tmp_path}/size:12", CLASSES, 8)[0].shape == (3, 12, 12)
    with pytest.raises(BadInput, match="size"):
        load_images(f"folder:{tmp_path}", CLASSES)


def test_other_names_are_data_sets_with_labels(tmp_path: Path) -> None:
    data, labelled = load_images("digits/invert", CLASSES)
    assert labelled and len(data.classes) == 10
    for name in CLASSES:
        write(tmp_path / name, 5)
    data, labelled = load_images(f"folder:{tmp_path}", ("x",))
    assert labelled and data.classes == CLASSES
    with pytest.raises(NotFound, match="does not exist"):
        load_images(f"folder:{tmp_path}/none", CLASSES)
