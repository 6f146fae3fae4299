"""Data sets of the datasets library are read from folders that the library itself has written."""

from __future__ import annotations

import io
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from popgen.data import load_data
from popgen.data.load import check_data_name, is_local, split_name
from popgen.errors import BadInput, BrokenFile, NotFound, Offline

NAMES = ["cat", "dog"]


def table(count: int, side: int = 12, **columns: list[int]) -> datasets.Dataset:
    """A table of images in which image i has the value 2 i, with `columns` of labels or else one column `label`."""
    images = [Image.fromarray(np.full((side, side, 3), 2 * i, np.uint8)) for i in range(count)]
    labels = columns or {"label": [i % 2 for i in range(count)]}
    features = {name: datasets.ClassLabel(names=NAMES) for name in labels}
    return datasets.Dataset.from_dict(
        {"image": images, **labels}, datasets.Features({"image": datasets.Image(), **features})
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    datasets.DatasetDict(
        {"train": table(20), "validation": table(6), "test": table(8), "extra": table(4)}
    ).save_to_disk(folder)
    return folder


def test_saved_to_disk(saved: Path) -> None:
    data = load_data(f"hf:{saved}")
    assert (data.shape, data.classes) == ((3, 12, 12), ("cat", "dog"))
    assert [len(data.train), len(data.val), len(data.test)] == [20, 6, 8]
    assert torch.equal((data.test.inputs[:, 0, 0, 0] * 255).round(), 2.0 * torch.arange(8))
    assert data.test.targets.tolist() == [0, 1] * 4
    assert data.remarks[:2] == ("images read: train 20, val 6, test 8", "splits that are not used: extra")
    assert load_data(f"hf:{saved}/size:6/mirror").shape == (3, 6, 6)
    assert split_name(f"hf:{saved}/size:6/mirror") == (f"hf:{saved}/size:6", ["mirror"])
    assert is_local(f"hf:{saved}/mirror")
    assert not is_local("hf:ylecun/mnist")


def test_parquet_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    table(20).to_parquet(tmp_path / "set" / "train-00000-of-00001.parquet")
    table(10).to_parquet(tmp_path / "set" / "test-00000-of-00001.parquet")
    data = load_data(f"hf:{tmp_path / 'set'}")
    assert data.classes == ("cat", "dog")
    assert [len(data.train), len(data.val), len(data.test)] == [16, 4, 10]


def test_one_table_is_split_here(tmp_path: Path) -> None:
    table(20).save_to_disk(tmp_path / "set")
    data = load_data(f"hf:{tmp_path / 'set'}")
    assert [len(data.train), len(data.val), len(data.test)] == [12, 4, 4]
    assert data.test.targets.tolist().count(0) == 2


def test_the_label_column_is_chosen(tmp_path: Path) -> None:
    several = table(10, fine=[0, 1] * 5, coarse=[1, 0] * 5).add_column("number", list(range(10)))
    several.save_to_disk(tmp_path / "set")
    name = f"hf:{tmp_path / 'set'}"
    with pytest.raises(BadInput) as caught:
        load_data(name)
    assert f"'{name}' has 2 columns of type ClassLabel\nit has image (Image), fine (ClassLabel), coarse" in str(
        caught.value
    )
    assert caught.value.todo == f"Name the label's column: {name}#fine."
    fine, coarse = load_data(f"{name}#fine"), load_data(f"{name}#coarse/size:4")
    assert torch.equal(fine.test.targets, (fine.test.inputs[:, 0, 0, 0] * 127.5).round().long() % 2)
    assert coarse.shape == (3, 4, 4)
    assert load_data(f"{name}#number").classes == tuple("0123456789")
    with pytest.raises(NotFound, match="has no column 'colour'"):
        load_data(f"{name}#colour")


def test_sets_that_do_not_fit(tmp_path: Path) -> None:
    columns = {"fractions": "#part", "empty texts": "#word"}
    swapped = table(4).cast_column("label", datasets.ClassLabel(names=NAMES[::-1]))
    of_other_names = datasets.DatasetDict({"train": table(4), "test": swapped})
    of_two_sizes = datasets.concatenate_datasets([table(4), table(4, side=9)])
    cases = {
        "neither": (
            datasets.Dataset.from_dict({"words": ["a"], "label": [0]}),
            "has 0 columns of type Image and none of texts that popgen knows\nit has words",
        ),
        "plain": (table(6).cast_column("label", datasets.Value("int64")), "has 0 columns of type ClassLabel"),
        "fractions": (table(6).add_column("part", [0.5] * 6), "column 'part' .* does not hold whole numbers or texts"),
        "empty texts": (
            table(6).add_column("word", ["a", ""] * 3),
            "has images without a label in all\nrow 1 has none",
        ),
        "other names": (of_other_names, "names its classes differently in train and test\ncat, dog and dog, cat"),
        "twice": (
            datasets.DatasetDict({"train": table(4), "val": table(2), "dev": table(2)}),
            "two splits that mean val",
        ),
        "unlabelled": (table(6, label=[0, 1, -1, 0, 1, 0]), "has images without a label in all\n'label' is negative"),
        "sizes": (of_two_sizes, r"differ in shape\n.*12, 12.*\n.*hf:.*/size:32"),
        "no train": (datasets.DatasetDict({"test": table(4)}), "has no split called train\nit has test"),
    }
    for name, (data, text) in cases.items():
        data.save_to_disk(tmp_path / name)
        with pytest.raises(BadInput, match=text):
            load_data(f"hf:{tmp_path / name}{columns.get(name, '')}")
    assert load_data(f"hf:{tmp_path / 'sizes'}/size:6").shape == (3, 6, 6)


def test_broken_sets(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(BrokenFile, match="set cannot be read by the datasets library"):
        arrow = next((saved / "train").glob("*.arrow"))
        arrow.write_bytes(arrow.read_bytes()[:300])
        load_data(f"hf:{saved}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BrokenFile, match="empty cannot be read by the datasets library"):
        load_data(f"hf:{tmp_path / 'empty'}")


def encoded(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def of_contents(contents: list[bytes | None], labels: list[int]) -> datasets.Dataset:
    """A table of images that are given by their files' contents; None stands for no image."""
    images = [None if content is None else {"bytes": content, "path": None} for content in contents]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    return datasets.Dataset.from_dict({"image": images, "label": labels}, features)


def test_rows_without_a_readable_image_are_passed_over_and_said(tmp_path: Path) -> None:
    whole = encoded(Image.new("RGB", (12, 12)))
    of_contents([whole, None, whole, whole[:50], b""] * 2, [0, 1] * 5).save_to_disk(tmp_path / "set")
    data = load_data(f"hf:{tmp_path / 'set'}")
    assert data.remarks[0] == "images read: 4, split here into train, val and test"
    assert data.remarks[1].startswith("rows passed over: 2 without an image (row 1, row 6), 4 unreadable (row 3: ")
    assert data.remarks[1].endswith("row 4: the file is empty, row 8: OSError: image file is truncated, ...)")
    of_contents([None] * 4, [0, 1] * 2).save_to_disk(tmp_path / "none")
    with pytest.raises(BrokenFile, match="no image of 'hf:.*none' can be read\nimage 0 of .* is missing"):
        load_data(f"hf:{tmp_path / 'none'}")


def test_images_are_read_as_those_of_folders_are(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    noise = np.random.default_rng(0).integers(0, 256, (4, 4, 4), np.uint8)
    deep = encoded(Image.fromarray(np.full((4, 4), 32768, np.uint16)))
    contents = [encoded(Image.fromarray(noise), exif=exif), deep]
    splits = {}
    for split in ("train", "test"):
        for name, content in zip(NAMES, contents, strict=True):
            (tmp_path / "folder" / split / name).mkdir(parents=True)
            (tmp_path / "folder" / split / name / "0.png").write_bytes(content)
        splits[split] = of_contents(contents, [0, 1])
    datasets.DatasetDict({**splits, "val": splits["test"]}).save_to_disk(tmp_path / "set")
    for alpha in ("", "/alpha:black"):
        folder, hub = (
            load_data(f"{name}{alpha}").test.inputs for name in (f"folder:{tmp_path}/folder", f"hf:{tmp_path}/set")
        )
        assert torch.equal(folder, hub)
    assert (hub[1] - 0.5).abs().max() < 0.01


def test_texts_become_classes_in_the_order_of_their_sorting(tmp_path: Path) -> None:
    words = {"train": ["hen", "crane"] * 5, "test": ["crane", "owl", "hen", "owl"]}
    splits = {
        split: table(len(found)).remove_columns("label").add_column("bird", found) for split, found in words.items()
    }
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "set")
    data = load_data(f"hf:{tmp_path / 'set'}#bird")
    assert data.classes == ("crane", "hen")
    assert data.test.targets.tolist() == [0, 1]
    assert data.remarks[:2] == (
        "images read: train 10, test 2; val is cut from train",
        "test: rows passed over: 2 of classes that train does not have (owl)",
    )
    with pytest.raises(BadInput, match="Name the label's column: hf:.*#bird"):
        load_data(f"hf:{tmp_path / 'set'}")


def test_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(Offline) as caught:
        load_data("hf:nobody/nothing-like-this@plain")
    assert "'hf:nobody/nothing-like-this@plain' could not be fetched" in str(caught.value)
    assert "save_to_disk('FOLDER')" in caught.value.todo


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("popgen.data.sources.hub.find_spec", lambda _: None)
    with pytest.raises(Offline, match=r"the datasets library is not installed\npip install 'popgen\[hf\]'"):
        check_data_name("hf:ylecun/mnist/rotate:45")


@pytest.mark.parametrize("name", ["hf:../no such folder", "hf:", "hf:a/b/c", "hf:/nowhere"])
def test_names_that_are_not_of_the_hub(name: str) -> None:
    with pytest.raises(NotFound, match="is neither a folder nor OWNER/NAME of the hub"):
        check_data_name(name)
