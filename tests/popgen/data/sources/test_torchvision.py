"""Named data sets are read from small files in the true layout of each; missing and truncated files are named."""

from __future__ import annotations

import bz2
import json
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from popgen.configs.search import SearchConfig
from popgen.data import load_data
from popgen.data.folder import data_folder
from popgen.data.load import check_data_name, split_name
from popgen.data.sources.catalogue import CATALOGUE
from popgen.errors import BadInput, BrokenFile, NotFound, Offline

RNG = np.random.default_rng(0)


# MNIST's format, USPS


def write_idx(file: Path, array: np.ndarray) -> None:
    kind = {"uint8": 8, "int32": 12}[str(array.dtype)]
    file.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
    file.write_bytes(head + array.astype(array.dtype.newbyteorder(">")).tobytes())


@pytest.mark.parametrize(("name", "kind"), [("mnist", "MNIST"), ("fashionmnist", "FashionMNIST"), ("kmnist", "KMNIST")])
def test_data_sets_in_the_format_of_mnist(root: Path, name: str, kind: str) -> None:
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


def test_emnist_is_upright_and_qmnist_has_further_columns(root: Path) -> None:
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


# Data sets of image files with different sizes


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
    for split, count in (("train", 10), ("test", 4)):
        (folder / "meta" / f"{split}.json").write_text(json.dumps({k: files[:count] for k, files in lists.items()}))
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
    for split, count in (("trainval", 20), ("test", 6)):
        text = "\n".join(lines[:count])
        (root / "oxford-iiit-pet" / "annotations" / f"{split}.txt").write_text(text)
    for split, indices in (("train", range(10)), ("val", range(10, 14)), ("test", range(14, 20))):
        text = "\n".join(f"{i:07} {('707-320', 'A380')[i % 2]}" for i in indices)
        (craft / f"images_variant_{split}.txt").write_text(text)
    pets, aircraft = load_data("oxfordiiitpet/size:16"), load_data("fgvcaircraft/size:16")
    assert (pets.shape, pets.classes) == ((3, 16, 16), ("Abyssinian", "Pug"))
    assert [len(pets.train), len(pets.val), len(pets.test)] == [16, 4, 6]
    assert aircraft.classes == ("707-320", "A380")
    # The validation split is the data set's own.
    assert [len(aircraft.train), len(aircraft.val), len(aircraft.test)] == [10, 4, 6]


def test_eurosat_is_split_here(root: Path) -> None:
    for i in range(20):
        write_picture(root / "eurosat" / "2750" / ("Forest", "River")[i % 2] / f"{i}.jpg", 64, 64, 10 * i)
    data = load_data("eurosat")
    assert (data.shape, data.classes, data.remarks) == ((3, 64, 64), ("Forest", "River"), ())
    assert [len(data.train), len(data.val), len(data.test)] == [12, 4, 4]


def test_images_that_would_fill_the_memory_are_refused_before_they_are_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_food101(root)
    # 20 training images and 8 test images fit at 48 pixels.
    monkeypatch.setattr("popgen.data.sources.gather.MAX_BYTES", 28 * 3 * 48 * 48 * 4)
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


@pytest.mark.usefixtures("root")
def test_a_download_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert "data_dir" not in frozen  # a resumed run checks the data set's hash, not its folder


@pytest.mark.usefixtures("root")
def test_unknown_names() -> None:
    for name, error, text in [
        ("cifar", NotFound, "no data set called 'cifar'\nnearest known: cifar10"),
        ("cifar10/spin:3", NotFound, "no variant called 'spin'"),
        ("stl10/size:2", BadInput, "'size:2' of 'stl10/size:2' is not a size\nwhole pixels from 4 to 1024"),
        ("stl10/size:x", BadInput, "is not a size"),
        ("stl10/mirror/size:32", BadInput, "Put it first: stl10/size:32/mirror."),
        ("stl10/size:32/size:32", BadInput, "has size: twice"),
    ]:
        with pytest.raises(error) as caught:
            check_data_name(name)
        assert text in str(caught.value)
