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
    assert data.remarks == ("splits that are not used: extra",)
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
    of_two_sizes = datasets.concatenate_datasets([table(4), table(4, side=9)])
    cases = {
        "text": (datasets.Dataset.from_dict({"text": ["a"], "label": [0]}), "has 0 columns of type Image\nit has text"),
        "plain": (table(6).cast_column("label", datasets.Value("int64")), "has 0 columns of type ClassLabel"),
        "words": (table(6).add_column("word", ["a"] * 6), "column 'word' .* does not hold whole numbers"),
        "unlabelled": (table(6, label=[0, 1, -1, 0, 1, 0]), "has images without a label in all\n'label' is negative"),
        "sizes": (of_two_sizes, r"differ in shape\n.*12, 12.*\n.*hf:.*/size:32"),
        "no train": (datasets.DatasetDict({"test": table(4)}), "has no split called train\nit has test"),
    }
    for name, (data, text) in cases.items():
        data.save_to_disk(tmp_path / name)
        with pytest.raises(BadInput, match=text):
            load_data(f"hf:{tmp_path / name}{'#word' if name == 'words' else ''}")
    assert load_data(f"hf:{tmp_path / 'sizes'}/size:6").shape == (3, 6, 6)


def test_broken_sets(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(BrokenFile, match="set cannot be read by the datasets library"):
        arrow = next((saved / "train").glob("*.arrow"))
        arrow.write_bytes(arrow.read_bytes()[:300])
        load_data(f"hf:{saved}")
    buffer = io.BytesIO()
    Image.new("RGB", (12, 12)).save(buffer, "PNG")
    broken = [{"bytes": buffer.getvalue()[:cut], "path": None} for cut in (None, 40)] * 5
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    datasets.Dataset.from_dict({"image": broken, "label": [0, 1] * 5}, features).save_to_disk(tmp_path / "broken")
    with pytest.raises(BrokenFile, match="image 1 of 'hf:.*broken' cannot be read"):
        load_data(f"hf:{tmp_path / 'broken'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BrokenFile, match="empty cannot be read by the datasets library"):
        load_data(f"hf:{tmp_path / 'empty'}")


def test_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(Offline) as caught:
        load_data("hf:nobody/nothing-like-this@plain")
    assert "'hf:nobody/nothing-like-this@plain' could not be fetched" in str(caught.value)
    assert "save_to_disk('FOLDER')" in caught.value.todo


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("popgen.data.sources.hub.find_spec", lambda name: None)
    with pytest.raises(Offline, match=r"the datasets library is not installed\npip install 'popgen\[hf\]'"):
        check_data_name("hf:ylecun/mnist/rotate:45")


@pytest.mark.parametrize("name", ["hf:../no such folder", "hf:", "hf:a/b/c", "hf:/nowhere"])
def test_names_that_are_not_of_the_hub(name: str) -> None:
    with pytest.raises(NotFound, match="is neither a folder nor OWNER/NAME of the hub"):
        check_data_name(name)
