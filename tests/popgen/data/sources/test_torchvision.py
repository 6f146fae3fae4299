"""Named data sets, from small files in the true layout of each; what is missing, cut short or altered."""

from __future__ import annotations

import bz2
import hashlib
import json
import pickle
import shutil
import socket
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from popgen.configs.search import SearchConfig
from popgen.data import load_data
from popgen.data.folder import data_folder
from popgen.data.load import check_data_name, split_name
from popgen.data.sources.catalogue import CATALOGUE
from popgen.errors import BadInput, BrokenFile, NotFound, Offline

RNG = np.random.default_rng(0)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder; nothing in it, and no way out to the network."""
    monkeypatch.setenv("POPGEN_DATA", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    return tmp_path


def no_network(*_: object, **__: object) -> None:
    raise socket.gaierror("there is no network in this test")


def colour(count: int, side: int = 32) -> np.ndarray:
    """uint8 (count, side, side, 3)."""
    return RNG.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def as_tensor(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


# CIFAR


def write_binary_cifar10(root: Path, images: np.ndarray, labels: np.ndarray, batches: int = 5) -> Path:
    """The same rows in every training batch's share, the first ten as the test batch."""
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
    (root / "cifar100" / "cifar-100-binary").mkdir(parents=True)  # below a folder of its own
    head = np.stack([np.zeros(20), labels], 1).astype(np.uint8)  # coarse, fine
    rows = np.concatenate([head, images.transpose(0, 3, 1, 2).reshape(20, -1)], 1)
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
    """torchvision's layout; the md5 sums of its files."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    flat = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    rows = np.array_split(np.arange(len(images)), 6)
    for name, some in zip([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"], rows, strict=True):
        (folder / name).write_bytes(pickle.dumps({"data": flat[some], "labels": labels[some].tolist()}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    return {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def test_pickled_batches_are_read_where_they_are_the_published_ones(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = colour(120), np.arange(120) % 10
    sums = write_pickled_cifar10(root, images, labels)
    # this test's files take the place of the published ones
    kind = datasets.CIFAR10
    monkeypatch.setattr(kind, "train_list", [[name, sums[name]] for name, _ in kind.train_list])
    monkeypatch.setattr(kind, "test_list", [[name, sums[name]] for name, _ in kind.test_list])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": sums["batches.meta"]})
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


# STL-10 and SVHN: files that are not the published ones are read, and said to be others

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


# MNIST's format, USPS


def write_idx(file: Path, array: np.ndarray) -> None:
    kind = {"uint8": 8, "int32": 12}[str(array.dtype)]
    file.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
    file.write_bytes(head + array.astype(array.dtype.newbyteorder(">")).tobytes())


@pytest.mark.parametrize(("name", "kind"), [("mnist", "MNIST"), ("fashionmnist", "FashionMNIST"), ("kmnist", "KMNIST")])
def test_mnist_and_its_kin(root: Path, name: str, kind: str) -> None:
    images, labels = RNG.integers(0, 256, (50, 28, 28), dtype=np.uint8), (np.arange(50) % 10).astype(np.uint8)
    for part in ("train", "t10k"):
        write_idx(root / kind / "raw" / f"{part}-images-idx3-ubyte", images)
        write_idx(root / kind / "raw" / f"{part}-labels-idx1-ubyte", labels)
    data = load_data(name)
    assert (data.shape, len(data.classes), data.remarks) == ((1, 28, 28), 10, ())
    assert torch.equal(data.test.inputs[:, 0], torch.from_numpy(images).float() / 255)
    assert data.test.targets.tolist() == labels.tolist()
    assert [len(data.train), len(data.val)] == [40, 10]
    file = root / kind / "raw" / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:9000])
    with pytest.raises(BrokenFile, match=f"^{file} cannot be read as '{name}'"):
        load_data(name)


def test_emnist_stands_upright_and_qmnist_has_further_columns(root: Path) -> None:
    images, labels = RNG.integers(0, 256, (94, 28, 28), dtype=np.uint8), (np.arange(94) % 47).astype(np.uint8)
    for part in ("train", "test"):
        write_idx(root / "EMNIST" / "raw" / f"emnist-balanced-{part}-images-idx3-ubyte", images)
        write_idx(root / "EMNIST" / "raw" / f"emnist-balanced-{part}-labels-idx1-ubyte", labels)
        write_idx(root / "QMNIST" / "raw" / f"qmnist-{part}-images-idx3-ubyte", images)
        columns = np.stack([labels % 10, *[labels] * 7], axis=1).astype(np.int32)
        write_idx(root / "QMNIST" / "raw" / f"qmnist-{part}-labels-idx2-int", columns)
    emnist, qmnist = load_data("emnist"), load_data("qmnist")
    assert len(emnist.classes) == 47
    assert torch.equal(emnist.test.inputs[:, 0].mT, torch.from_numpy(images).float() / 255)
    assert torch.equal(qmnist.test.inputs[:, 0], torch.from_numpy(images).float() / 255)
    assert qmnist.test.targets.tolist() == (labels % 10).tolist()


def test_usps(root: Path) -> None:
    lines = [f"{1 + i % 10} " + " ".join(f"{k + 1}:{(i + k) % 3 - 1}" for k in range(256)) for i in range(50)]
    for file in ("usps.bz2", "usps.t.bz2"):
        (root / file).write_bytes(bz2.compress("\n".join(lines).encode()))
    data = load_data("usps")
    assert (data.shape, data.classes) == ((1, 16, 16), tuple("0123456789"))
    assert data.test.targets.tolist() == [i % 10 for i in range(50)]
    (root / "usps.t.bz2").write_bytes((root / "usps.t.bz2").read_bytes()[:-9])
    with pytest.raises(BrokenFile, match=f"^{root / 'usps.t.bz2'} cannot be read as 'usps'"):
        load_data("usps")


# Sets of files with different sizes


def write_picture(file: Path, width: int, height: int, shade: int, mode: str = "RGB") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (width, height), (shade,) * 3 if mode == "RGB" else shade).save(file, quality=95)


def write_food101(root: Path) -> Path:
    folder, lists = root / "food-101", {"apple_pie": [], "ramen": []}
    for label, (name, files) in enumerate(lists.items()):
        for i in range(10):
            write_picture(folder / "images" / name / f"{i}.jpg", 100 + 7 * i, 90 + 20 * label, 50 + 100 * label)
            files.append(f"{name}/{i}")
    (folder / "meta").mkdir()
    for split, rows in (("train", slice(0, 10)), ("test", slice(0, 4))):
        (folder / "meta" / f"{split}.json").write_text(json.dumps({k: files[rows] for k, files in lists.items()}))
    return folder


def test_food101_is_resized(root: Path) -> None:
    folder = write_food101(root)
    data = load_data("food101")
    assert (data.shape, data.classes) == ((3, 64, 64), ("apple_pie", "ramen"))
    assert [len(data.train), len(data.val), len(data.test)] == [16, 4, 8]
    assert data.remarks == ("images of 20 sizes: shorter side resized to 64, centre 64x64 kept",)
    assert torch.equal((data.train.inputs.mean((1, 2, 3)) > 0.4).long(), data.train.targets)
    assert load_data("food101/size:24/rotate:90").shape == (3, 24, 24)
    assert split_name("food101/size:24/rotate:90") == ("food101/size:24", ["rotate:90"])
    (folder / "images" / "ramen" / "3.jpg").write_bytes(b"\xff\xd8 cut")
    with pytest.raises(BrokenFile, match="images/ramen/3.jpg is not a readable image"):
        load_data("food101/size:20")
    (folder / "images" / "ramen" / "3.jpg").unlink()
    with pytest.raises(BrokenFile, match="images/ramen/3.jpg is not a readable image\nFileNotFoundError"):
        load_data("food101/size:21")


def test_pets_and_aircraft(root: Path) -> None:
    lines = []
    for i in range(20):
        name = f"{('Abyssinian', 'pug')[i % 2]}_{i}"
        write_picture(root / "oxford-iiit-pet" / "images" / f"{name}.jpg", 40 + i, 30, 200)
        lines.append(f"{name} {1 + i % 2} 1 1")
        write_picture(root / "fgvc-aircraft-2013b" / "data" / "images" / f"{i:07}.jpg", 40 + i, 30, 200)
    (root / "oxford-iiit-pet" / "annotations").mkdir()
    craft = root / "fgvc-aircraft-2013b" / "data"
    (craft / "variants.txt").write_text("707-320\nA380\n")
    for split, rows in (("trainval", range(20)), ("test", range(6))):
        text = "\n".join(lines[i] for i in rows)
        (root / "oxford-iiit-pet" / "annotations" / f"{split}.txt").write_text(text)
    for split, rows in (("train", range(10)), ("val", range(10, 14)), ("test", range(14, 20))):
        text = "\n".join(f"{i:07} {('707-320', 'A380')[i % 2]}" for i in rows)
        (craft / f"images_variant_{split}.txt").write_text(text)
    pets, aircraft = load_data("oxfordiiitpet/size:16"), load_data("fgvcaircraft/size:16")
    assert (pets.shape, pets.classes) == ((3, 16, 16), ("Abyssinian", "Pug"))
    assert [len(pets.train), len(pets.val), len(pets.test)] == [16, 4, 6]
    assert aircraft.classes == ("707-320", "A380")
    assert [len(aircraft.train), len(aircraft.val), len(aircraft.test)] == [10, 4, 6]  # its own validation split


def test_eurosat_is_split_here(root: Path) -> None:
    for i in range(20):
        write_picture(root / "eurosat" / "2750" / ("Forest", "River")[i % 2] / f"{i}.jpg", 64, 64, 10 * i)
    data = load_data("eurosat")
    assert (data.shape, data.classes, data.remarks) == ((3, 64, 64), ("Forest", "River"), ())
    assert [len(data.train), len(data.val), len(data.test)] == [12, 4, 4]


def test_what_would_fill_the_memory_is_refused_before_it_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_food101(root)
    monkeypatch.setattr(
        "popgen.data.sources.gather.MAX_BYTES", 28 * 3 * 48 * 48 * 4
    )  # 20 images of training, 8 of test
    with pytest.raises(BadInput) as caught:
        load_data("food101/size:60")
    assert "28 images of 3x60x60 as float32" in str(caught.value)
    assert caught.value.todo == "Have them resized: food101/size:48."
    assert load_data("food101/size:48").shape == (3, 48, 48)


# Missing files


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_what_is_missing_says_how_to_get_it(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    check_data_name(f"{name}/rotate:45")
    with pytest.raises(Offline) as caught:
        load_data(name)
    entry, text = CATALOGUE[name], str(caught.value)
    assert f"data set {name!r} is not there" in text
    assert all(need in text for need in entry.needs)
    assert f"in {root} and {root / name}" in text
    assert all(archive.url.rpartition("/")[0] in text and archive.file in text for archive in entry.archives)
    assert entry.archives or entry.page in text
    assert "--data-dir (POPGEN_DATA)" in text


def test_a_download_that_fails(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with pytest.raises(
        Offline, match="'cifar10' could not be downloaded\nURLError: .*there is no network in this test"
    ):
        load_data("cifar10")


def test_archives_put_there_by_hand_are_unpacked(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    made = tmp_path_factory.mktemp("made")
    craft = made / "fgvc-aircraft-2013b" / "data"
    for i in range(10):
        write_picture(craft / "images" / f"{i}.jpg", 20, 30, 100)
    (craft / "variants.txt").write_text("707-320\nA380\n")
    for split in ("train", "val", "test"):
        (craft / f"images_variant_{split}.txt").write_text(
            "\n".join(f"{i} {('707-320', 'A380')[i % 2]}" for i in range(10))
        )
    with tarfile.open(root / "fgvc-aircraft-2013b.tar.gz", "w:gz") as archive:
        archive.add(made / "fgvc-aircraft-2013b", "fgvc-aircraft-2013b")
    assert len(load_data("fgvcaircraft/size:16").train) == 10


def test_a_truncated_archive_is_named(root: Path) -> None:
    (root / "stl10_binary.tar.gz").write_bytes(b"\x1f\x8b and no more")
    with pytest.raises(BrokenFile, match="stl10_binary.tar.gz is truncated or altered\nits md5 sum is not 91f7769df0"):
        load_data("stl10")


def test_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POPGEN_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert data_folder() == tmp_path / "data"
    monkeypatch.setenv("POPGEN_DATA", "elsewhere")
    assert data_folder() == tmp_path / "elsewhere"
    assert data_folder("mine") == tmp_path / "mine"
    frozen = SearchConfig(archs=["a"], data="cifar10", data_dir="x").frozen_fields()
    assert "data_dir" not in frozen  # the data set's hash counts, not where it lies


def test_unknown_names(root: Path) -> None:
    for name, error, text in [
        ("cifar", NotFound, "no data set called 'cifar'\nnearest known: cifar10"),
        ("cifar10/spin:3", NotFound, "no variant called 'spin'"),
        ("stl10/size:2", BadInput, "'size:2' of 'stl10/size:2' is not a size\nwhole pixels from 4 to 1024"),
        ("stl10/size:x", BadInput, "is not a size"),
        ("stl10/mirror/size:32", BadInput, "Put it first: stl10/size:32/mirror."),
        ("stl10/size:32/size:32", BadInput, "stands behind a variant"),
    ]:
        with pytest.raises(error) as caught:
            check_data_name(name)
        assert text in str(caught.value)
