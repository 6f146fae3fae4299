"""CIFAR, STL-10 and SVHN are read from small files in their true layouts; damaged and unpublished files are told."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision import datasets

from popgen.data import load_data
from popgen.errors import BrokenFile

RNG = np.random.default_rng(0)


def colour(count: int, side: int = 32) -> np.ndarray:
    """Random colour images, uint8 of shape (count, side, side, 3)."""
    return RNG.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def as_tensor(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


# CIFAR


def write_binary_cifar10(root: Path, images: np.ndarray, labels: np.ndarray, batches: int = 5) -> Path:
    """Write the images as training batches, and the first ten again as the test batch."""
    folder = root / "cifar-10-batches-bin"
    folder.mkdir()
    rows = np.concatenate([labels[:, None].astype(np.uint8), images.transpose(0, 3, 1, 2).reshape(len(images), -1)], 1)
    for i, part in enumerate(np.array_split(rows, batches), 1):
        part.tofile(folder / f"data_batch_{i}.bin")
    rows[:10].tofile(folder / "test_batch.bin")
    (folder / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n\n")
    return folder


def test_cifar10_in_its_binary_version(root: Path) -> None:
    images, labels = colour(100), np.arange(100) % 10
    folder = write_binary_cifar10(root, images, labels)
    data = load_data("cifar10")
    assert (data.shape, data.classes) == ((3, 32, 32), tuple("abcdefghij"))
    assert torch.equal(data.test.inputs, as_tensor(images[:10]))
    assert [len(data.train), len(data.val), len(data.test)] == [80, 20, 10]
    assert data.remarks == (
        f"{folder} is not the published cifar10: 100 train images instead of 50000, 10 test images instead of 10000",
    )


def test_the_split_is_the_same_from_any_file_of_the_same_order(root: Path) -> None:
    images, labels = colour(100), np.arange(100) % 10
    folder = write_binary_cifar10(root, images, labels)
    binary = load_data("cifar10")
    shutil.rmtree(folder)
    own = {"x_train": images, "y_train": labels, "x_test": images[:10], "y_test": labels[:10]}
    np.savez(root / "cifar10.npz", **own, classes=np.array(list("abcdefghij")))
    assert load_data("cifar10").sha256 == binary.sha256
    (root / "cifar10").mkdir()
    (root / "cifar10.npz").rename(root / "cifar10" / "cifar10.npz")
    assert load_data("cifar10").sha256 == binary.sha256
    assert load_data("cifar10/noise:0.06/classes:a+b").train.inputs.shape == (16, 3, 32, 32)


def test_cifar100_in_its_binary_version(root: Path) -> None:
    images, labels = colour(20), np.arange(20) % 100
    (root / "cifar100" / "cifar-100-binary").mkdir(parents=True)  # one folder deeper than cifar10 above
    label_bytes = np.stack([np.zeros(20), labels], 1).astype(np.uint8)  # the coarse and the fine label
    rows = np.concatenate([label_bytes, images.transpose(0, 3, 1, 2).reshape(20, -1)], 1)
    for name in ("train", "test"):
        rows.tofile(root / "cifar100" / "cifar-100-binary" / f"{name}.bin")
    names = "\n".join(f"class_{i}" for i in range(100))
    (root / "cifar100" / "cifar-100-binary" / "fine_label_names.txt").write_text(names)
    data = load_data("cifar100")
    assert data.classes[99] == "class_99"
    assert torch.equal(data.test.inputs, as_tensor(images))
    assert data.test.targets.tolist() == labels.tolist()


@pytest.mark.parametrize("damage", ["cut", "empty", "missing", "label"])
def test_a_broken_binary_batch_is_named(root: Path, damage: str) -> None:
    file = write_binary_cifar10(root, colour(20), np.arange(20) % 10) / "data_batch_3.bin"
    content = file.read_bytes()
    changed = {"cut": content[:5000], "empty": b"", "label": b"\x0a" + content[1:]}
    file.unlink() if damage == "missing" else file.write_bytes(changed[damage])
    with pytest.raises(BrokenFile, match="data_batch_3.bin (is truncated|cannot be read|has the label 10)"):
        load_data("cifar10")


def write_pickled_cifar10(root: Path, images: np.ndarray, labels: np.ndarray) -> dict[str, str]:
    """Write the batches in torchvision's layout; return the md5 sum of each file."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    flat = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    batches = np.array_split(np.arange(len(images)), 6)
    for name, indices in zip([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"], batches, strict=True):
        (folder / name).write_bytes(pickle.dumps({"data": flat[indices], "labels": labels[indices].tolist()}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    return {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def test_pickled_batches_are_read_where_they_are_the_published_ones(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = colour(120), np.arange(120) % 10
    sums = write_pickled_cifar10(root, images, labels)
    # The md5 sums of this test's files replace those of the published ones.
    cifar10 = datasets.CIFAR10
    monkeypatch.setattr(cifar10, "train_list", [[name, sums[name]] for name, _ in cifar10.train_list])
    monkeypatch.setattr(cifar10, "test_list", [[name, sums[name]] for name, _ in cifar10.test_list])
    monkeypatch.setattr(cifar10, "meta", {**cifar10.meta, "md5": sums["batches.meta"]})
    data = load_data("cifar10")
    assert torch.equal(data.test.inputs, as_tensor(images[100:]))
    assert [len(data.train), len(data.val), data.remarks] == [80, 20, ()]
    file = root / "cifar-10-batches-py" / "data_batch_4"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BrokenFile, match="data_batch_4 is truncated or altered\nit would be unpickled"):
        load_data("cifar10")
    file.unlink()
    with pytest.raises(BrokenFile, match="data_batch_4 is missing"):
        load_data("cifar10")


def test_pickles_of_unknown_origin_are_not_opened(root: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (root / "it_ran",)

    write_pickled_cifar10(root, colour(60), np.arange(60) % 10)
    for file in (root / "cifar-10-batches-py").iterdir():
        file.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(BrokenFile, match=r"Restore it, or put cifar-10-batches-bin or cifar10.npz there"):
        load_data("cifar10")
    assert not (root / "it_ran").exists()


# STL-10 and SVHN: files that are not the published ones are read, and a remark says so.

STL10 = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]


def write_stl10(root: Path, images: np.ndarray, labels: np.ndarray, names: list[str] | None = STL10) -> Path:
    folder = root / "stl10_binary"
    folder.mkdir()
    for split in ("train", "test"):
        images.transpose(0, 3, 2, 1).tofile(folder / f"{split}_X.bin")  # colour, column, row
        (labels + 1).astype(np.uint8).tofile(folder / f"{split}_y.bin")
    if names:
        (folder / "class_names.txt").write_text("\n".join(names) + "\n")
    return folder


@pytest.mark.parametrize("names", [STL10, None])
def test_stl10_of_other_images(root: Path, names: list[str] | None) -> None:
    images, labels = colour(30, 96), np.arange(30) % 10
    folder = write_stl10(root, images, labels, names)
    data = load_data("stl10")
    assert (data.shape, list(data.classes)) == ((3, 96, 96), STL10)
    assert torch.equal(data.test.inputs, as_tensor(images))
    assert data.test.targets.tolist() == labels.tolist()
    files = "train_X.bin, train_y.bin, test_X.bin, test_y.bin"
    assert data.remarks == (f"{files} in {folder} are not the published files of stl10 (md5)",)
    small = load_data("stl10/size:32/mirror")
    assert small.shape == (3, 32, 32)
    assert small.remarks[1] == "images of 96x96: shorter side resized to 32, centre 32x32 kept"
    assert float((small.test.inputs.mean() - data.test.inputs.mean()).abs()) < 1e-3


@pytest.mark.parametrize(
    ("file", "cut", "text"),
    [
        ("train_X.bin", 100, "train_X.bin is truncated, or train_y.bin is\n829340 bytes are 30.00 images .* 30 labels"),
        ("test_X.bin", 96 * 96 * 3, "test_X.bin is truncated, or test_y.bin is\n801792 bytes are 29.00 images"),
        ("test_y.bin", 1, "test_X.bin is truncated, or test_y.bin is\n829440 bytes are 30.00 images .* for 29 labels"),
    ],
)
def test_truncated_stl10(root: Path, file: str, cut: int, text: str) -> None:
    path = write_stl10(root, colour(30, 96), np.arange(30) % 10) / file
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(BrokenFile, match=text):
        load_data("stl10")


@pytest.mark.parametrize("label", [-1, 10])
def test_stl10_with_a_label_that_is_none(root: Path, label: int) -> None:
    write_stl10(root, colour(30, 96), np.where(np.arange(30) == 7, label, np.arange(30) % 10))
    with pytest.raises(BrokenFile, match=r"train_y.bin has the labels .*\nSTL-10 counts its 10 classes from 1"):
        load_data("stl10")


def test_svhn(root: Path) -> None:
    images, labels = colour(40), np.arange(40) % 10
    for split in ("train", "test"):
        y = np.where(labels == 0, 10, labels)[:, None].astype(np.uint8)  # its label of the digit 0 is 10
        savemat(root / f"{split}_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": y})
    data = load_data("svhn")
    assert data.classes == tuple("0123456789")
    assert torch.equal(data.test.inputs, as_tensor(images))
    assert data.test.targets.tolist() == labels.tolist()
    assert "are not the published files of svhn (md5)" in data.remarks[0]
    file = root / "test_32x32.mat"
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(BrokenFile, match=f"^{file} cannot be read as 'svhn'"):
        load_data("svhn")
