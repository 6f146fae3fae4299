"""Data sets that are unusual or too thin to measure on get a remark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from popgen.data import Part, load_data
from popgen.data.remarks import source_remarks, thin_remarks


def test_blank_images_are_counted(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 5, 5), np.uint8)
    test = images.copy()
    test[[3, 7]] = 9
    labels = np.arange(20) % 2
    np.savez(tmp_path / "it.npz", x_train=images, y_train=labels, x_test=test, y_test=labels)
    data = load_data(f"npz:{tmp_path / 'it.npz'}")
    assert data.remarks == ("2 of 20 test images are blank: all their pixels have one value",)


def test_classes_that_train_lacks_are_named_and_counted(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 5, 5), np.uint8)
    labels = np.arange(30) % 3
    own = {
        "x_train": images,
        "y_train": labels * 2,
        "x_val": images,
        "y_val": labels,
        "x_test": images,
        "y_test": labels,
    }
    np.savez(tmp_path / "it.npz", **own)
    data = load_data(f"npz:{tmp_path / 'it.npz'}")
    assert data.remarks == ("train has no image of '1', '3', to which 10 val and 10 test images belong",)


def test_class_names_that_stand_there_twice() -> None:
    data = load_data("digits")
    assert source_remarks(data) == ()
    cranes = replace(data, classes=("crane", "crane", *data.classes[2:]))
    assert source_remarks(cranes) == (
        "several classes are called 'crane'; they are not matched with other classes by name",
    )


def test_one_class_and_few_images() -> None:
    data = load_data("digits")
    few = replace(data, classes=("all",), val=Part(data.val.inputs[:5], torch.zeros(5, dtype=torch.long)))
    assert [text.split(",")[0] for text in thin_remarks(few)] == [
        "there is one class",
        "val has 5 images: its accuracy says next to nothing",
    ]
    assert thin_remarks(replace(data, val=data.val.take(torch.arange(6)))) == ()
