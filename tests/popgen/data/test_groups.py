"""Groups are read by file, by index or from arrays; each validation image gets its own, however the data were split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from popgen.data import load_data
from popgen.data.groups import load_groups
from popgen.errors import BadInput, BrokenFile, NotFound

COUNT = 40  # images in each split; each has a grey value of its own, which is its number
LABELS = np.arange(COUNT) % 4


def pixels(first: int) -> np.ndarray:
    return np.broadcast_to(np.arange(first, first + COUNT, dtype=np.uint8)[:, None, None], (COUNT, 4, 4))


def grey(value: float) -> int:
    return round(value * 255)


def group_of(number: int) -> str:
    return ("north", "south", "west")[number % 3]


def save_npz(path: Path, splits: tuple[str, ...]) -> str:
    """Write the images, labels and groups of each split ("" is an unsplit pool); return the data set's name."""
    arrays = {}
    for number, split in enumerate(splits):
        suffix = f"_{split}" if split else ""
        arrays |= {f"x{suffix}": pixels(number * COUNT), f"y{suffix}": LABELS}
        arrays[f"groups{suffix}"] = np.array([group_of(number * COUNT + i) for i in range(COUNT)])
    np.savez(path, **arrays)
    return f"npz:{path}"


def save_folder(root: Path, splits: tuple[str, ...]) -> tuple[str, dict[str, int]]:
    """Write image files; return the data set's name, and the number of the image in each file."""
    files = {}
    for number, split in enumerate(splits):
        for i, image in enumerate(pixels(number * COUNT)):
            file = root / split / f"class{LABELS[i]}" / f"{(i * 7) % COUNT:02d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(image)).save(file)
            files[file.relative_to(root).as_posix()] = number * COUNT + i
    return f"folder:{root}", files


@pytest.mark.parametrize("splits", [("",), ("train", "test"), ("train", "val", "test")])
@pytest.mark.parametrize("modifier", ["", "/invert", "/shots:2"])
def test_arrays_and_files_give_every_image_its_own_group(
    tmp_path: Path, splits: tuple[str, ...], modifier: str
) -> None:
    inverted = modifier == "/invert"
    data = load_data(save_npz(tmp_path / "x.npz", splits) + modifier)
    groups = load_groups(data, None)
    numbers, tested = (
        [grey(1 - v if inverted else v) for v in part.inputs[:, 0, 0, 0].tolist()] for part in (data.val, data.test)
    )
    assert [groups.names[i] for i in groups.index] == [group_of(i) for i in numbers]
    assert groups.test is not None and [groups.names[i] for i in groups.test] == [group_of(i) for i in tested]
    assert sum(groups.counts.values()) == len(data.val)
    name, files = save_folder(tmp_path / "images", splits)
    data = load_data(name + modifier)
    table = tmp_path / "groups.csv"
    table.write_text("file,group,note\n" + "".join(f"{file},{group_of(i)},\n" for file, i in files.items()))
    groups = load_groups(data, str(table))
    numbers, tested = (
        [grey(1 - v if inverted else v) for v in part.inputs[:, 0, 0, 0].tolist()] for part in (data.val, data.test)
    )
    assert [groups.names[i] for i in groups.index] == [group_of(i) for i in numbers]
    assert groups.test is not None and [groups.names[i] for i in groups.test] == [group_of(i) for i in tested]


def test_groups_of_test_images_may_be_unknown(tmp_path: Path) -> None:
    """They are known wholly or not at all, and an own split of the table tells their indices from those of others."""
    arrays = {"x_train": pixels(0), "y_train": LABELS, "x_test": pixels(40), "y_test": LABELS}
    np.savez(tmp_path / "x.npz", **arrays, groups_train=np.arange(COUNT) % 2)
    data = load_data(f"npz:{tmp_path / 'x.npz'}")
    assert load_groups(data, None).test is None
    name, files = save_folder(tmp_path / "images", ("train", "val", "test"))
    folder, table = load_data(name), tmp_path / "groups.csv"
    val = "".join(f"{file},a\n" for file in files if file.startswith("val"))
    table.write_text(f"file,group\n{val}")
    assert load_groups(folder, str(table)).test is None
    some = next(file for file in files if file.startswith("test"))
    table.write_text(f"file,group\n{val}{some},a\n")
    with pytest.raises(
        BadInput, match="no group for 39 of 40 test images .*\n.*\nGive one to every test image, or to none"
    ):
        load_groups(folder, str(table))
    digits = load_data("digits")
    rows = [
        f"{split},{i},{split}{i % 2}" for split in ("train", "val", "test") for i in range(len(getattr(digits, split)))
    ]
    table.write_text("split,index,group\n" + "\n".join(rows))
    groups = load_groups(digits, str(table))
    assert groups.names == ("test0", "test1", "val0", "val1") and groups.test is not None
    assert groups.test.tolist() == [i % 2 for i in range(len(digits.test))]
    assert groups.index.tolist() == [2 + i % 2 for i in range(len(digits.val))]
    table.write_text("split,index,group\nvalid,0,a\n")
    with pytest.raises(BadInput, match="entry 1 of .* is of the split 'valid'\n.*\nWrite train, val, test."):
        load_groups(digits, str(table))
    table.write_text("split,index,group\n" + "\n".join(rows[:-1]))
    with pytest.raises(BadInput, match="no group for 1 of 497 test images"):
        load_groups(digits, str(table))


def test_a_folder_with_train_alone(tmp_path: Path) -> None:
    name, files = save_folder(tmp_path / "images", ("train",))
    data, table = load_data(name), tmp_path / "groups.csv"
    table.write_text("group,file\n" + "".join(f"{group_of(i)},./{file}\n" for file, i in files.items()))
    groups = load_groups(data, str(table))
    assert [groups.names[i] for i in groups.index] == [group_of(grey(v)) for v in data.val.inputs[:, 0, 0, 0].tolist()]


def test_indices_of_any_data_set(tmp_path: Path) -> None:
    data, table = load_data("digits/rotate:45/classes:3+5"), tmp_path / "groups.csv"
    indices = list(range(len(data.val)))
    table.write_text("index,group\n" + "".join(f"{i},{'odd' if i % 2 else 'even'}\n" for i in indices[::-1]))
    groups = load_groups(data, str(table))
    assert groups.names == ("even", "odd") and groups.index.tolist() == [i % 2 for i in indices]


def test_what_is_refused(tmp_path: Path) -> None:
    data, table = load_data(save_npz(tmp_path / "x.npz", ("train", "val", "test"))), tmp_path / "groups.csv"

    def refused(text: str, message: str, name: str | None = None) -> None:
        table.write_text(text)
        with pytest.raises(BadInput, match=message):
            load_groups(data if name is None else load_data(name), str(table))

    whole = "".join(f"{i},a\n" for i in range(COUNT))
    refused("picture,group\n", "has the columns picture, group\nthe first line names them: file,group or index,group")
    refused("", r"has the columns \(none\)")
    refused("index,group\n0,\n", "entry 1 of .* has no group")
    refused("index,group\n,a\n", "entry 1 of .* has no index")
    refused("index,group\n0,a\n0,b\n", "has two groups for '0': 'a' and 'b'")
    refused("index,group\n0,a\n2,a\n", "no group for 38 of 40 validation images .*\nthe first of them: index 1, 3, 4")
    refused(f"index,group\n{whole}40,a\n", "names 1 images that .* has not\nthe first of them: index 40")
    refused("file,group\na.png,a\n", "is not a folder of them\nonly what lies in folder:FOLDER has names")
    name, files = save_folder(tmp_path / "images", ("train", "val"))
    some = "".join(f"{file},a\n" for file in files)
    refused(f"file,group\n{some}val/class0/no.png,a\n", "names 1 images .*\n.*: file val/class0/no.png\nPaths", name)
    refused("file,group\ntrain/class0/00.png,a\n", "no group for 40 of 40", name)
    refused(
        f"file,group\n{some}",
        "not of 'folder:.*/classes:0.1'\nits validation split has other images",
        f"{name}/classes:0+1",
    )
    with pytest.raises(NotFound, match="there is no file 'nowhere.csv' with groups"):
        load_groups(data, "nowhere.csv")
    table.write_bytes("file;grüppe".encode("latin-1"))
    with pytest.raises(BrokenFile, match="cannot be read as CSV\nUnicodeDecodeError.*\nSave it as CSV in UTF-8"):
        load_groups(data, str(table))


def test_tables_of_excel_are_read(tmp_path: Path) -> None:
    name, files = save_folder(tmp_path / "images", ("train", "val"))
    data, table = load_data(name), tmp_path / "groups.csv"
    lines = [
        ("File ", "Group", "Share"),
        *((file.replace("/", "\\"), group_of(i), "12,5 %") for file, i in files.items()),
    ]
    semicolons, tabs = ("\r\n".join(separator.join(line) for line in lines) for separator in (";", "\t"))
    for content in (
        semicolons.encode("utf-8-sig"),
        f"sep=;\r\n{semicolons}\r\n;;\r\n".encode(),
        tabs.encode("utf-16"),
    ):
        table.write_bytes(content)
        groups = load_groups(data, str(table))
        numbers = [grey(v) for v in data.val.inputs[:, 0, 0, 0].tolist()]
        assert [groups.names[i] for i in groups.index] == [group_of(i) for i in numbers]


def test_groups_of_a_folder_whose_unreadable_images_were_passed_over(tmp_path: Path) -> None:
    name, files = save_folder(tmp_path / "images", ("train", "test"))
    broken = [file for file in files if file.startswith("train")][::7]
    for file in broken:
        (tmp_path / "images" / file).write_bytes(b"")
    data, table = load_data(f"{name}/size:4"), tmp_path / "groups.csv"
    assert sorted(data.unread) == sorted(broken)
    table.write_text("file,group\n" + "".join(f"{file},{group_of(i)}\n" for file, i in files.items()))
    groups = load_groups(data, str(table))
    numbers = [grey(v) for v in data.val.inputs[:, 0, 0, 0].tolist()]
    assert [groups.names[i] for i in groups.index] == [group_of(i) for i in numbers]


def test_arrays_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput,
        match="the groups of 'digits' are not known\n.*\nGive --groups FILE, .* or try --data digits/style:rotate:45:0.2",
    ):
        load_groups(load_data("digits"), None)
    arrays = {"x_train": pixels(0), "y_train": LABELS, "x_test": pixels(40), "y_test": LABELS}
    np.savez(tmp_path / "none.npz", **arrays)
    with pytest.raises(
        BadInput, match="has no array groups_train\nit holds .*\nAdd the group of each image of x_train"
    ):
        load_groups(load_data(f"npz:{tmp_path / 'none.npz'}"), None)
    np.savez(tmp_path / "few.npz", **arrays, groups_train=np.arange(5))
    with pytest.raises(BadInput, match=r"has shape \(5,\)\nthere are 40 images"):
        load_groups(load_data(f"npz:{tmp_path / 'few.npz'}"), None)
