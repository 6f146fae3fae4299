"""Data sets: fixed stratified splits, variants as part of the name, and users' own files, sound and broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

from popgen.archs.inputs import fit_images
from popgen.data import VARIANTS, DataSet, Part, load_data
from popgen.data.images.variants import apply_variants, parse_variant
from popgen.data.load import check_data_name, from_arrays, split_name
from popgen.errors import BadInput, BrokenFile, NotFound, PopgenError

IMAGES = np.random.default_rng(0).integers(0, 256, size=(40, 6, 5), dtype=np.uint8)
LABELS = np.arange(40) % 4
Save = Callable[..., str]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write arrays as .npz; returns the data set's name."""

    def write(**arrays: np.ndarray) -> str:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npz"
        np.savez_compressed(path, **arrays)
        return f"npz:{path}"

    return write


def write_folder(root: Path, images: dict[str, list[np.ndarray]]) -> Path:
    """PNG files `root/CLASS/NUMBER.png`; a class may be written as `split/class`."""
    for place, arrays in images.items():
        (root / place).mkdir(parents=True)
        for i, array in enumerate(arrays):
            Image.fromarray(array).save(root / place / f"{i:02}.png")
    return root


def grey(count: int, value: int = 0, size: tuple[int, int] = (5, 7)) -> list[np.ndarray]:
    return [np.full(size, value + i, dtype=np.uint8) for i in range(count)]


def keys(part: Part) -> set[bytes]:
    return {image.numpy().tobytes() for image in part.inputs}


def parts(data: DataSet) -> list[Part]:
    return [data.train, data.val, data.test]


# Splits


def test_digits_are_split_once_and_for_all() -> None:
    data = load_data("digits")
    assert [len(p) for p in parts(data)] == [1000, 300, 497]
    assert data.shape == (1, 8, 8)
    assert data.classes == tuple("0123456789")
    assert data.sha256 == "c3e8ec4d6b2ea190bc65e4f1cb904a1766bda06468da2d7d07a6bb0351121716"


def test_splits_are_disjoint_and_hold_everything() -> None:
    bunch, data = load_digits(), load_data("digits")
    rows = [
        np.append(image.numpy().ravel() * 16, label)
        for part in parts(data)
        for image, label in zip(part.inputs, part.targets, strict=True)
    ]
    expected = np.column_stack([bunch.data, bunch.target])
    assert sorted(map(bytes, np.array(rows).astype(np.uint8))) == sorted(map(bytes, expected.astype(np.uint8)))


def test_splits_are_stratified() -> None:
    data = load_data("digits")
    total = torch.cat([p.targets for p in parts(data)]).bincount()
    for part in parts(data):
        assert torch.all((part.targets.bincount() - total * len(part) / 1797).abs() <= 1)


@settings(max_examples=20, deadline=None)
@given(labels=st.lists(st.integers(0, 3), min_size=10, max_size=60), train=st.sampled_from([0.5, 0.6, 0.7]))
def test_any_pool_is_dealt_out_by_class(labels: list[int], train: float) -> None:
    pool = torch.arange(len(labels)).view(-1, 1, 1, 1) / len(labels)
    data = from_arrays("x", pool, torch.tensor(labels), tuple("0123"), (train, 0.2))
    again = from_arrays("x", pool, torch.tensor(labels), tuple("0123"), (train, 0.2))
    assert data.sha256 == again.sha256
    assert torch.equal(torch.cat([p.inputs for p in parts(data)]).flatten().sort().values, pool.flatten())
    for part, share in zip(parts(data), (train, 0.2, 0.8 - train), strict=True):
        assert abs(len(part) - share * len(labels)) <= 1
        for label in range(4):
            assert abs(int((part.targets == label).sum()) - share * labels.count(label)) <= 2


def test_hashes_tell_contents_and_splits_apart() -> None:
    data = load_data("digits")
    assert load_data("digits/invert").sha256 != data.sha256
    assert DataSet("x", data.classes, data.train, data.test, data.val).sha256 != data.sha256
    assert DataSet("x", data.classes, data.train, data.val, data.test).sha256 == data.sha256


def test_per_class_draws_of_the_class() -> None:
    data = load_data("digits")
    drawn = data.per_class("train", 5, torch.Generator().manual_seed(3))
    assert drawn.shape == (10, 5, 1, 8, 8)
    for label in range(10):
        own = keys(data.train.take(data.train.targets == label))
        found = [image.numpy().tobytes() for image in drawn[label]]
        assert len(set(found)) == 5
        assert set(found) <= own
    assert torch.equal(drawn, data.per_class("train", 5, torch.Generator().manual_seed(3)))
    assert not torch.equal(drawn, data.per_class("train", 5, torch.Generator().manual_seed(4)))
    assert data.per_class("val", 200, torch.Generator().manual_seed(3)).shape == (10, 200, 1, 8, 8)  # there are 30


# Variants


@pytest.mark.parametrize(
    "variant", [f"{name}:45" if default is None else name for name, (_, default, _, _) in VARIANTS.items()]
)
def test_a_variant_stays_on_its_side(variant: str) -> None:
    plain, data = load_data("digits"), load_data(f"digits/{variant}")
    assert data.classes == plain.classes
    for mine, other in zip(parts(data), parts(plain), strict=True):
        assert torch.equal(mine.targets, other.targets)
        assert mine.inputs.shape == other.inputs.shape
        assert 0 <= mine.inputs.min() < mine.inputs.max() <= 1
        assert torch.equal(mine.inputs, apply_variants(other.inputs, [variant]))
        assert torch.equal(mine.inputs, other.inputs) == (variant in ("desaturate", "chroma"))  # the digits are grey
    assert not any(
        keys(a) & keys(b) for a, b in [(data.train, data.test), (data.train, data.val)] if variant != "threshold"
    )


def same(images: Tensor, *variants: str, tolerance: float = 1e-5) -> bool:
    return torch.allclose(apply_variants(images, list(variants)), images, atol=tolerance)


def test_whole_turns_and_double_flips_change_nothing() -> None:
    images = load_data("digits").val.inputs
    for variants in (
        ["rotate:0"],
        ["rotate:360"],
        ["rotate:-360"],
        ["rotate:90"] * 4,
        ["rotate:180"] * 2,
        ["rotate:90", "rotate:-90"],
        ["mirror", "mirror"],
        ["invert", "invert"],
        ["contrast:1"],
        ["noise:0"],
        ["brightness:0"],
        ["gamma:1"],
        ["pixelate:1"],
        ["chroma:1"],
        ["desaturate:0"],
        ["impulse:0"],
        ["motion:1"],
        ["posterize:17"],  # the digits have 17 grey values
    ):
        assert same(images, *variants), variants
    for variants in (["rotate:90"], ["rotate:180"], ["mirror"], ["invert"], ["rotate:90", "mirror"]):
        assert not same(images, *variants, tolerance=0.5), variants


def test_a_quarter_turn_is_counter_clockwise() -> None:
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 0, 7] = 1  # top right goes to top left
    turned = apply_variants(image, ["rotate:90"])
    assert torch.allclose(turned, torch.rot90(image, 1, (2, 3)), atol=1e-5)
    assert turned[0, 0, 0, 0] > 0.99


def test_variants_by_closed_forms() -> None:
    step = torch.zeros(1, 1, 8, 8)
    step[..., 4:] = 1
    edges = apply_variants(step, ["edges"])
    assert torch.equal(edges[0, 0, 3], torch.tensor([0, 0, 0, 1.0, 1, 0, 0, 0]))
    grey_levels = torch.tensor([0.0, 0.25, 0.5, 0.75]).view(1, 1, 2, 2)
    assert apply_variants(grey_levels, ["contrast:2"]).flatten().tolist() == [0, 0, 0.5, 1]
    assert apply_variants(grey_levels, ["threshold"]).flatten().tolist() == [0, 0, 0, 1]
    flat = torch.full((2, 1, 8, 8), 0.3)
    assert same(flat, "blur:1.5")
    noisy = apply_variants(torch.full((50, 1, 8, 8), 0.5), ["noise:0.1"])
    assert abs(float(noisy.std()) - 0.1) < 0.005
    assert apply_variants(grey_levels, ["brightness:0.5"]).flatten().tolist() == [0.5, 0.75, 1, 1]
    assert apply_variants(grey_levels, ["gamma:2"]).flatten().tolist() == [0, 0.0625, 0.25, 0.5625]
    assert apply_variants(grey_levels, ["posterize:2"]).flatten().tolist() == [0, 0, 0, 1]  # .5 is rounded to even
    assert apply_variants(grey_levels, ["pixelate:2"]).flatten().tolist() == [0.375] * 4
    assert torch.allclose(apply_variants(step, ["motion:2"])[0, 0, 3], torch.tensor([0, 0, 0, 0.5, 1, 1, 1, 1]))
    pepper = apply_variants(torch.full((50, 1, 8, 8), 0.5), ["impulse:0.2"])
    assert abs(float((pepper != 0.5).float().mean()) - 0.2) < 0.02
    assert set(pepper.unique().tolist()) == {0, 0.5, 1}


def test_variants_of_colours() -> None:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    grey = apply_variants(images, ["desaturate:1"])
    assert torch.equal(grey[:, 0], grey[:, 2])
    assert torch.allclose(grey[:, :1], (images * luma).sum(1, keepdim=True))
    for variant in ("chroma:4", "desaturate:0.7"):  # neither changes the brightness
        changed = apply_variants(images, [variant])
        assert torch.allclose((changed * luma).sum(1), (images * luma).sum(1), atol=1e-5)
        assert not torch.allclose(changed, images, atol=0.05)
    assert same(grey, "chroma:4")
    worse = [float((apply_variants(grey, [f"jpeg:{quality}"]) - grey).abs().mean()) for quality in (100, 50, 10)]
    assert worse == sorted(worse)
    assert worse[0] < 0.01 < worse[2]


@pytest.mark.parametrize(
    ("name", "source", "variants"),
    [
        ("digits", "digits", []),
        ("digits/rotate:45/invert", "digits", ["rotate:45", "invert"]),
        ("npz:a/b.npz/blur", "npz:a/b.npz", ["blur"]),
        ("folder:/x/y/mirror/noise:.2", "folder:/x/y", ["mirror", "noise:.2"]),
        ("my.module:load/invert", "my.module:load", ["invert"]),
        ("digits/spin:3", "digits/spin:3", []),
        ("invert", "invert", []),
    ],
)
def test_names_are_taken_apart(name: str, source: str, variants: list[str]) -> None:
    assert split_name(name) == (source, variants)


def test_a_folder_that_is_called_like_a_variant(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "invert", {"a": grey(5), "b": grey(5, 100)})
    plain = load_data(f"folder:{root}")
    assert plain.train.inputs.max() < 0.5


def test_a_variant_of_a_folder_that_is_called_like_a_variant(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "invert", {"a": grey(5), "b": grey(5, 100)})
    assert split_name(f"folder:{root}/mirror") == (f"folder:{root}", ["mirror"])


def test_variants_have_a_default_or_need_a_number() -> None:
    for name, (_, default, low, high) in VARIANTS.items():
        if default is None:
            with pytest.raises(BadInput, match=f"variant '{name}' needs a number"):
                parse_variant(name)
        else:
            assert low <= default <= high
            assert parse_variant(name) == (name, default)


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("digit", NotFound, "there is no data set called 'digit'\nnearest known: digits"),
        ("digits/spin:3", NotFound, "there is no variant called 'spin'\nnearest known: "),
        ("digits/rotat:3", NotFound, "there is no variant called 'rotat'\nnearest known: rotate"),
        ("digits/rotate", BadInput, "variant 'rotate' needs a number\nfrom -360 to 360\nFor example rotate:45."),
        (
            "digits/rotate:",
            BadInput,
            "variant 'rotate:': '' is not in its range\nrotate takes a number from -360 to 360",
        ),
        ("digits/rotate:nan", BadInput, "'nan' is not in its range"),
        ("digits/rotate:1e3", BadInput, "'1e3' is not in its range"),
        ("digits/blur:0", BadInput, "blur takes a number from 0.05 to 20"),
        ("digits/invert:1", BadInput, "invert takes a number from 0 to 0"),
        ("npz:missing.npz", NotFound, "'missing.npz' of data set 'npz:missing.npz' does not exist"),
        ("folder:missing", NotFound, "'missing' of data set 'folder:missing' does not exist\nGive the path"),
        ("no_such_module:load", NotFound, "module 'no_such_module' of 'no_such_module:load' cannot be imported"),
        ("math:pie", NotFound, "'math' has no 'pie'"),
        ("builtins:dict", BadInput, "'builtins:dict' returned dict\nit must return a popgen.data.DataSet"),
    ],
)
def test_names_that_are_refused(name: str, error: type[PopgenError], text: str) -> None:
    with pytest.raises(error) as caught:
        load_data(name)
    assert text in str(caught.value)
    if not name.endswith((":pie", ":dict", ":load")):  # modules are imported with the data
        with pytest.raises(error):
            check_data_name(name)


def make_two() -> DataSet:
    return from_arrays("two", torch.zeros(20, 1, 4, 4), torch.arange(20) % 2, ("a", "b"))


def test_a_function_of_the_users_and_its_variants() -> None:
    assert load_data(f"{__name__}:make_two").classes == ("a", "b")
    assert torch.equal(load_data(f"{__name__}:make_two/invert").val.inputs, torch.ones(4, 1, 4, 4))


# Users' files


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


@pytest.mark.parametrize(
    "changed",
    [
        {"y": LABELS[:20]},  # half of the images are dropped in silence
        {"y": np.concatenate([LABELS, LABELS])},  # IndexError
        {"y": LABELS - 1},  # images with the label -1
        {"classes": np.array(["a", "b"])},  # labels 2 and 3 have no class
        {"y": LABELS + 0.5},  # rounded down in silence
        {"y": np.array(list("abcd") * 10)},  # UFuncTypeError
        {"y": np.eye(4, dtype=int)[LABELS]},  # IndexError
        {"x": IMAGES[:0], "y": LABELS[:0]},  # ValueError
        {"x": np.full(IMAGES.shape, np.nan)},  # NaN images
    ],
    ids=["few labels", "many labels", "negative", "classes", "fractions", "texts", "one-hot", "empty", "NaN"],
)
def test_npz_whose_arrays_do_not_go_together(save: Save, changed: dict[str, np.ndarray]) -> None:
    with pytest.raises(BadInput):
        load_data(save(**{"x": IMAGES, "y": LABELS, **changed}))


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


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_folder_with_a_broken_image(tmp_path: Path, damage: str) -> None:
    root = write_folder(tmp_path / "f", {"a": grey(5), "b": grey(5)})
    path = root / "b" / "03.png"
    path.write_bytes({"cut": path.read_bytes()[:40], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(BrokenFile) as caught:
        load_data(f"folder:{root}")
    assert caught.value.what == f"{path} is not a readable image"
    assert caught.value.todo == "Remove or replace it."


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
    assert data.remarks == (
        "images of 4 sizes: shorter side resized to 6, centre 6x6 kept",
        "14 grey images of 15 repeated to colour",
    )
    every = torch.cat([part.inputs for part in parts(data)])
    assert (every[:, 0] - every[:, 2]).abs().amax((1, 2)).gt(0.3).sum() == 1
    assert torch.equal((every.mean((1, 2, 3)) > 0.5).long(), torch.cat([part.targets for part in parts(data)]))


def test_any_data_set_is_resized(save: Save) -> None:
    data = load_data("digits/size:5/invert")
    assert (data.shape, data.name) == ((1, 5, 5), "digits/size:5/invert")
    assert data.remarks == ("images of 8x8: shorter side resized to 5, centre 5x5 kept",)
    assert load_data("digits/size:8").sha256 == load_data("digits").sha256
    wide = load_data(save(x=np.broadcast_to(np.arange(10, dtype=np.uint8) * 20, (40, 4, 10)), y=LABELS) + "/size:4")
    assert torch.allclose(wide.val.inputs[0, 0, 0] * 255, torch.tensor([60.0, 80, 100, 120]))  # the four middle columns


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(PopgenError):
        load_data(f"folder:{tmp_path / 'f'}")


def test_folder_of_16_bit_images(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "f", {name: [np.full((4, 4), 32768, np.uint16)] * 5 for name in "ab"})
    assert abs(float(load_data(f"folder:{root}").train.inputs.mean()) - 0.5) < 0.01


def test_an_unknown_variant_behind_a_known_one_is_named() -> None:
    with pytest.raises(NotFound, match="no variant called 'spin'"):
        load_data("digits/rotate:45/spin:3")


# Images for a network


@settings(max_examples=20, deadline=None)
@given(channels=st.sampled_from([1, 3]), size=st.integers(2, 20), to=st.integers(2, 20), out=st.sampled_from([1, 3]))
def test_fitting_gives_the_shape_and_keeps_flat_images(channels: int, size: int, to: int, out: int) -> None:
    images = torch.rand(2, 1, 1, 1).expand(2, channels, size, size)
    fitted = fit_images(images, (out, to, to))
    assert fitted.shape == (2, out, to, to)
    assert torch.allclose(fitted, images[:, :1, :1, :1].expand_as(fitted), atol=1e-5)


def test_fitting_rules() -> None:
    images = torch.rand(4, 3, 8, 8)
    assert torch.equal(fit_images(images, (3, 8, 8)), images)
    assert torch.equal(fit_images(images, (1, 8, 8)), images.mean(1, keepdim=True))
    assert torch.equal(fit_images(images[:, :1], (3, 8, 8)), images[:, :1].repeat(1, 3, 1, 1))
    stripes = (torch.arange(64) % 2).float().expand(1, 1, 64, 64)
    assert float((fit_images(stripes, (1, 8, 8)) - 0.5).abs().max()) < 0.1  # antialiased
    assert fit_images(stripes, (1, 100, 30)).shape == (1, 1, 100, 30)
