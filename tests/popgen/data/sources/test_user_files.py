"""Users' own .npz files and folders of images are read, and refused where they are broken or do not fit."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

from popgen.data import DataSet, Part, load_data
from popgen.data.load import split_name
from popgen.errors import BadInput, BrokenFile, PopgenError

IMAGES = np.random.default_rng(0).integers(0, 256, size=(40, 6, 5), dtype=np.uint8)
LABELS = np.arange(40) % 4
Save = Callable[..., str]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write arrays to an .npz file and return the data set's name."""

    def write(**arrays: np.ndarray) -> str:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npz"
        np.savez_compressed(path, **arrays)
        return f"npz:{path}"

    return write


def write_folder(root: Path, images: dict[str, list[np.ndarray]]) -> Path:
    """Write PNG files `root/CLASS/NUMBER.png` for each key CLASS, which may be SPLIT/CLASS."""
    for folder, arrays in images.items():
        (root / folder).mkdir(parents=True)
        for i, array in enumerate(arrays):
            Image.fromarray(array).save(root / folder / f"{i:02}.png")
    return root


def grey(count: int, value: int = 0, size: tuple[int, int] = (5, 7)) -> list[np.ndarray]:
    return [np.full(size, value + i, dtype=np.uint8) for i in range(count)]


def keys(part: Part) -> set[bytes]:
    return {image.numpy().tobytes() for image in part.inputs}


def parts(data: DataSet) -> list[Part]:
    return [data.train, data.val, data.test]


# .npz files


def test_npz_grey(save: Save) -> None:
    data = load_data(save(x=IMAGES, y=LABELS))
    assert data.shape == (1, 6, 5)
    assert [len(p) for p in parts(data)] == [24, 8, 8]
    assert data.classes == tuple("0123")
    assert keys(data.train) | keys(data.val) | keys(data.test) == {
        (torch.from_numpy(image).float() / 255).numpy().tobytes() for image in IMAGES
    }


@pytest.mark.parametrize("shape", [(40, 6, 5, 3), (40, 3, 6, 5), (40, 6, 5, 1), (40, 1, 6, 5)])
def test_npz_layouts(save: Save, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(1).random(shape, dtype=np.float32)
    data = load_data(save(x_train=images, y_train=LABELS, x_val=images, y_val=LABELS, x_test=images, y_test=LABELS))
    first = images if shape[1] in (1, 3) else images.transpose(0, 3, 1, 2)
    assert all(np.array_equal(p.inputs.numpy(), first) for p in parts(data))


def test_npz_with_its_own_splits_and_classes(save: Save) -> None:
    own = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:8], "y_test": LABELS[:8].reshape(-1, 1)}
    data = load_data(save(**own, classes=np.array(["ant", "bee", "cat", "dog"])))
    assert data.classes == ("ant", "bee", "cat", "dog")
    assert [len(p) for p in parts(data)] == [32, 8, 8]
    assert data.test.targets.tolist() == LABELS[:8].tolist()
    assert torch.equal(data.test.inputs[:, 0], torch.from_numpy(IMAGES[:8]).float() / 255)
    assert not keys(data.train) & keys(data.val)
    assert data.val.targets.bincount().tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"x": IMAGES}, "holds ['x']\nneeded: x and y, or x_train, y_train, x_test, y_test"),
        ({"x_train": IMAGES, "y_train": LABELS}, "needed: x and y"),
        ({"x": IMAGES.astype(np.int64), "y": LABELS}, "shape (40, 6, 5), int64\nUse uint8, or floats in [0, 1]"),
        ({"x": IMAGES / 128, "y": LABELS}, "are not usable"),
        ({"x": IMAGES / -255, "y": LABELS}, "are not usable"),
        ({"x": IMAGES[:, 0], "y": LABELS}, "shape (40, 5), uint8"),
        ({"x": np.zeros((40, 6, 5, 2), np.uint8), "y": LABELS}, "shape (40, 6, 5, 2), uint8"),
    ],
)
def test_npz_that_does_not_fit(save: Save, arrays: dict[str, np.ndarray], text: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_data(save(**arrays))
    assert text in str(caught.value)


def test_npz_of_16_bits_or_1_bit_is_scaled_by_the_highest_value(save: Save) -> None:
    deep = load_data(save(x=IMAGES.astype(np.uint16) * 257, y=LABELS))
    assert torch.equal(deep.train.inputs, load_data(save(x=IMAGES, y=LABELS)).train.inputs)
    assert load_data(save(x=IMAGES > 100, y=LABELS)).train.inputs.unique().tolist() == [0, 1]


def test_npz_with_transparency_is_laid_on_white_or_on_what_the_name_says(save: Save) -> None:
    x = np.zeros((40, 6, 5, 4), np.uint8)
    x[..., 0], x[:, 3:, :, 3] = 255, 255  # red, of which the upper half is transparent
    name = save(x=x, y=LABELS)
    for alpha, upper in {"": [1, 1, 1], "/alpha:black": [0, 0, 0], "/alpha:ignore": [1, 0, 0]}.items():
        images = load_data(f"{name}{alpha}").train.inputs
        assert images[0, :, 0, 0].tolist() == upper
        assert images[0, :, 5, 0].tolist() == [1, 0, 0]
    planes = save(x=x.transpose(0, 3, 1, 2), y=LABELS)
    assert torch.equal(load_data(planes).train.inputs, load_data(name).train.inputs)


def npy(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    """The content of an .npy file whose header claims an array that does not follow."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"shape": shape, "fortran_order": False, "descr": dtype})
    return buffer.getvalue() + bytes(100)


@pytest.mark.parametrize(("shape", "text"), [((10**6, 9, 9), "is too small for that"), ((2**62, 2**62), "too small")])
def test_npz_whose_header_claims_more_than_the_file_holds(tmp_path: Path, shape: tuple[int, ...], text: str) -> None:
    with ZipFile(tmp_path / "it.npz", "w") as archive:
        archive.writestr("x.npy", npy(shape))
        archive.writestr("y.npy", npy((100,)))
    with pytest.raises(BrokenFile, match=text):
        load_data(f"npz:{tmp_path / 'it.npz'}")


def test_npz_whose_labels_are_no_class_numbers(save: Save) -> None:
    with pytest.raises(BadInput, match="has the label 1000000000000\n.*at most 100,000 classes"):
        load_data(save(x=IMAGES, y=np.where(LABELS == 3, 10**12, LABELS)))


def test_npz_whose_splits_have_different_shapes(save: Save) -> None:
    with pytest.raises(BadInput, match=r"different shapes\n\[\(1, 3, 5\), \(1, 6, 5\)\]"):
        load_data(save(x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:, :3], y_test=LABELS))


def test_npz_with_python_objects_is_not_unpickled(save: Save, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "it_ran",)

    name = save(x=np.array([Bomb()] * 40, dtype=object), y=LABELS)
    with pytest.raises(BrokenFile, match="Object arrays cannot be loaded when allow_pickle=False"):
        load_data(name)
    assert not (tmp_path / "it_ran").exists()


def test_npz_that_is_empty_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "text.npz").write_bytes(b"not a zip")
    for name in ("empty.npz", "text.npz", ""):
        with pytest.raises(BrokenFile, match="cannot be read as .npz"):
            load_data(f"npz:{tmp_path / name}")


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_npz_that_is_broken(save: Save, damage: str) -> None:
    path = Path(save(x=IMAGES, y=LABELS).removeprefix("npz:"))
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF
    path.write_bytes({"cut": content[:300], "flipped": content}[damage])
    with pytest.raises(BrokenFile, match="cannot be read as .npz"):
        load_data(f"npz:{path}")


# The comments say what would happen without the check.
@pytest.mark.parametrize(
    "changed",
    [
        {"y": LABELS[:20]},  # half of the images would be dropped in silence
        {"y": np.concatenate([LABELS, LABELS])},  # an IndexError without the file's name
        {"y": LABELS - 1},  # labels of -1 would be kept
        {"classes": np.array(["a", "b"])},  # labels 2 and 3 would have no class name
        {"y": LABELS + 0.5},  # labels would be rounded down in silence
        {"y": np.array(list("abcd") * 10)},  # a UFuncTypeError without the file's name
        {"y": np.eye(4, dtype=int)[LABELS]},  # an IndexError without the file's name
        {"x": IMAGES[:0], "y": LABELS[:0]},  # a ValueError without the file's name
        {"x": np.full(IMAGES.shape, np.nan)},  # pixels would be NaN
    ],
    ids=["few labels", "many labels", "negative", "classes", "fractions", "texts", "one-hot", "empty", "NaN"],
)
def test_npz_whose_arrays_do_not_fit_together(save: Save, changed: dict[str, np.ndarray]) -> None:
    with pytest.raises(BadInput):
        load_data(save(**{"x": IMAGES, "y": LABELS, **changed}))


# Folders


def test_folder_that_is_split(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "f", {"dog": grey(10), "ant": grey(10, 100)})
    (root / "ant" / "notes.txt").write_text("not an image")
    data = load_data(f"folder:{root}")
    assert data.classes == ("ant", "dog")
    assert data.shape == (1, 5, 7)
    assert [len(p) for p in parts(data)] == [12, 4, 4]
    for part in parts(data):
        assert torch.equal(part.targets, (part.inputs.mean(dim=(1, 2, 3)) < 0.2).long())


def test_folder_in_colour_with_its_own_splits(tmp_path: Path) -> None:
    colour = [np.stack([g, g + 50, g + 100], axis=-1) for g in grey(10)]
    root = tmp_path / "f"
    write_folder(root, {"train/a": colour, "train/b": colour, "test/a": colour[:3], "test/b": colour[:2]})
    data = load_data(f"folder:{root}")
    assert data.shape == (3, 5, 7)
    assert [len(p) for p in parts(data)] == [16, 4, 5]
    assert data.test.targets.tolist() == [0, 0, 0, 1, 1]
    assert torch.equal(data.test.inputs[0, :, 0, 0] * 255, torch.tensor([0.0, 50, 100]))


def test_folder_jpeg_and_palette_files(tmp_path: Path) -> None:
    root = tmp_path / "f"
    for name in "ab":
        (root / name).mkdir(parents=True)
        for i in range(5):
            picture = Image.new("RGB", (8, 8), (200, 100, 50))
            picture.save(root / name / f"{i}.JPG") if i % 2 else picture.convert("P").save(root / name / f"{i}.png")
    images = load_data(f"folder:{root}").train.inputs * 255
    assert images.shape[1:] == (3, 8, 8)
    assert torch.all((images.mean(dim=(0, 2, 3)) - torch.tensor([200.0, 100, 50])).abs() < 10)


@pytest.mark.parametrize(
    ("damage", "text"), [("cut", "truncated"), ("empty", "the file is empty"), ("text", "it is none of PNG")]
)
def test_a_broken_image_is_passed_over_and_said(tmp_path: Path, damage: str, text: str) -> None:
    root = write_folder(tmp_path / "f", {"a": grey(5), "b": grey(5)})
    path = root / "b" / "03.png"
    path.write_bytes({"cut": path.read_bytes()[:50], "empty": b"", "text": b"hello"}[damage])
    data = load_data(f"folder:{root}")
    assert data.remarks[0] == "images read: 9, split here into train, val and test"
    assert data.remarks[1].startswith("files passed over: 1 unreadable (b/03.png: ")
    assert text in data.remarks[1]
    assert (len(data.train) + len(data.val) + len(data.test), data.unread) == (9, ("b/03.png",))


def test_a_split_without_a_readable_image_is_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "f", {"train/a": grey(5), "test/a": grey(1)})
    (root / "test" / "a" / "00.png").write_bytes(b"")
    with pytest.raises(BrokenFile) as caught:
        load_data(f"folder:{root}")
    assert caught.value.what == f"no image of test of 'folder:{root}' can be read"
    assert f"{root}/test/a/00.png is not a readable image: the file is empty" in caught.value.why


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "hollow" / "a").mkdir(parents=True)
    write_folder(tmp_path / "sizes", {"a": grey(3), "b": grey(3, size=(5, 8))})
    write_folder(tmp_path / "no train", {"test/a": grey(3), "val/a": grey(3)})
    for name, text in [
        ("empty", "has no class folders\nexpected FOLDER/CLASS/image.png"),
        ("hollow", "holds no images\nlooked for .bmp, .jpeg, .jpg, .png, .webp in 1 class folders"),
        ("sizes", "differ in shape\n[(1, 5, 7), (1, 5, 8)]\nResize them"),
        ("no train", "has val, test but no train folder"),
    ]:
        with pytest.raises(BadInput) as caught:
            load_data(f"folder:{tmp_path / name}")
        assert text in str(caught.value)


def test_folder_of_different_sizes_and_modes_is_resized_where_a_size_is_given(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "f", {"a": [*grey(5, size=(9, 12)), *grey(3, size=(20, 8))], "b": grey(6, 200)})
    colour = np.full((30, 8, 3), (250, 200, 150), dtype=np.uint8)
    Image.fromarray(colour).save(root / "b" / "colour.png")
    with pytest.raises(BadInput, match=f"have their centres resized: folder:{root}/size:32."):
        load_data(f"folder:{root}")
    data = load_data(f"folder:{root}/size:6/mirror")
    assert (data.shape, data.name) == ((3, 6, 6), f"folder:{root}/size:6/mirror")
    assert data.remarks[1:3] == (
        "images of 4 sizes: shorter side resized to 6, centre 6x6 kept",
        "14 grey images of 15 repeated to colour",
    )
    every = torch.cat([part.inputs for part in parts(data)])
    assert (every[:, 0] - every[:, 2]).abs().amax((1, 2)).gt(0.3).sum() == 1
    assert torch.equal((every.mean((1, 2, 3)) > 0.5).long(), torch.cat([part.targets for part in parts(data)]))


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(PopgenError):
        load_data(f"folder:{tmp_path / 'f'}")


def test_folder_of_16_bit_images(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "f", {name: [np.full((4, 4), 32768, np.uint16)] * 5 for name in "ab"})
    assert abs(float(load_data(f"folder:{root}").train.inputs.mean()) - 0.5) < 0.01


def test_a_folder_that_is_called_like_a_variant(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "invert", {"a": grey(5), "b": grey(5, 100)})
    plain = load_data(f"folder:{root}")
    assert plain.train.inputs.max() < 0.5


def test_a_variant_of_a_folder_that_is_called_like_a_variant(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "invert", {"a": grey(5), "b": grey(5, 100)})
    assert split_name(f"folder:{root}/mirror") == (f"folder:{root}", ["mirror"])
