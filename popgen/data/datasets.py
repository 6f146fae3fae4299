"""A data set by name: `digits`, `npz:FILE`, `folder:FOLDER` or `module:function`, with variants and subsets behind slashes.

Splits never change: a source's own ones where it has them, otherwise stratified by class from a fixed seed. The splits
are drawn before variants are applied, so that an image and its rotation stand on the same side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from popgen.data.subsets import SUBSETS, check_subset, class_rows, shot_rows
from popgen.data.variants import VARIANTS, apply_variants, parse_variant
from popgen.errors import BadInput, BrokenFile, NotFound, brief, unknown_name
from popgen.refs import is_module_attr, load_attr

SPLITS = ("train", "val", "test")
_SPLIT_SEED = 1797
_MODIFIERS = (*VARIANTS, *SUBSETS)  # what may stand behind a name
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


@dataclass(frozen=True)
class Part:
    """One split: images in [0, 1], shape (n, c, h, w), and labels, shape (n,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> Part:
        """The examples at `index`."""
        return Part(self.images[index], self.labels[index])


@dataclass(frozen=True)
class DataSet:
    """Three splits and the classes' names."""

    name: str
    classes: tuple[str, ...]
    train: Part
    val: Part
    test: Part

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        c, h, w = self.train.images.shape[1:]
        return c, h, w

    @cached_property
    def sha256(self) -> str:
        """A hash of all images and labels and of how they are split."""
        digest = hashlib.sha256()
        for split in SPLITS:
            part: Part = getattr(self, split)
            digest.update(part.images.contiguous().numpy().tobytes())
            digest.update(part.labels.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def per_class(self, split: str, count: int, generator: torch.Generator) -> Tensor:
        """`count` images of each class, drawn anew (with replacement where a class has fewer).

        Shape (classes, count, c, h, w).
        """
        part: Part = getattr(self, split)
        rows = []
        for label in range(len(self.classes)):
            index = (part.labels == label).nonzero().flatten()
            if len(index) == 0:
                continue
            if len(index) >= count:
                pick = torch.randperm(len(index), generator=generator)[:count]
            else:
                pick = torch.randint(len(index), (count,), generator=generator)
            rows.append(part.images[index[pick]])
        return torch.stack(rows)


def split_name(name: str) -> tuple[str, list[str]]:
    """The source and its variants and subsets.

    >>> split_name("digits/rotate:45/invert")
    ('digits', ['rotate:45', 'invert'])
    """
    parts = name.split("/")
    cut = len(parts)
    while cut > 1 and parts[cut - 1].partition(":")[0] in _MODIFIERS:
        prefix, _, path = "/".join(parts[:cut]).partition(":")
        if prefix in ("npz", "folder") and Path(path).exists():
            break  # a file or folder that is called like a variant
        cut -= 1
    return "/".join(parts[:cut]), parts[cut:]


def check_data_name(name: str) -> None:
    """Refuse a name that cannot be loaded, without loading it.

    Raises:
        NotFound: no such source, file or variant.
    """
    if name.endswith("/") and ":" not in name.split("/")[0]:
        raise BadInput(f"the data set name {name!r} ends with a slash", "a variant should follow", "Remove the slash.")
    source, variants = split_name(name)
    for variant in variants:
        if variant.partition(":")[0] in SUBSETS:
            check_subset(variant)
        else:
            parse_variant(variant)
    prefix, _, path = source.partition(":")
    if prefix in ("npz", "folder"):
        if not Path(path).exists():
            raise NotFound(
                f"{path!r} of data set {name!r} does not exist", "", "Give the path from the current folder."
            )
    elif source in _BUILTIN or is_module_attr(source):
        return
    else:
        base, _, rest = source.partition("/")
        if base in _BUILTIN and rest:
            unknown = next(p for p in (part.partition(":")[0] for part in rest.split("/")) if p not in _MODIFIERS)
            todo = f"Variants stand behind the data set: {base}/rotate:45."
            raise unknown_name("variant", unknown, _MODIFIERS, todo)
        raise unknown_name("data set", source, [*_BUILTIN, "npz:FILE", "folder:FOLDER", "module:function"])


def load_data(name: str) -> DataSet:
    """The data set of that name, variants applied.

    Raises:
        NotFound: no such source, file or variant.
        BrokenFile: the file is not what it should be.

    >>> data = load_data("digits/rotate:45")
    >>> data.shape, len(data.train), len(data.val), len(data.test)
    ((1, 8, 8), 1000, 300, 497)
    """
    check_data_name(name)
    return _load(name, _file_state(split_name(name)[0]))


def _file_state(source: str) -> tuple[tuple[str, int, int], ...]:
    """What tells a changed file from the one that was loaded: absolute path, time and size of each."""
    prefix, _, path = source.partition(":")
    if prefix not in ("npz", "folder"):
        return ()
    files = [Path(path)] if prefix == "npz" else sorted(p for p in Path(path).rglob("*") if p.is_file())
    return tuple((str(f.absolute()), f.stat().st_mtime_ns, f.stat().st_size) for f in files)


@lru_cache(maxsize=64)
def _load(name: str, state: tuple[tuple[str, int, int], ...]) -> DataSet:
    source, variants = split_name(name)
    if variants:
        changed = load_data(source)
        for text in variants:
            changed = _modified(changed, text)
        return replace(changed, name=name)
    prefix, _, path = source.partition(":")
    if prefix == "npz":
        return _npz(name, Path(path))
    if prefix == "folder":
        return _folder(name, Path(path))
    if source in _BUILTIN:
        return _BUILTIN[source](name)
    make = load_attr(source)
    try:
        found = make()
    except Exception as error:  # it is the user's own code
        raise BadInput(
            f"{source!r} failed to make a data set", brief(error), "Correct it, or call it by itself."
        ) from error
    if not isinstance(found, DataSet):
        raise BadInput(f"{source!r} returned {type(found).__name__}", "it must return a popgen.data.DataSet", "")
    return found


def _modified(data: DataSet, text: str) -> DataSet:
    """The data set with one variant or subset applied."""
    kind = text.partition(":")[0]
    if kind == "shots":
        return replace(data, train=data.train.take(shot_rows(text, data.train.labels, data.classes, data.name)))
    parts: dict[str, Part] = {split: getattr(data, split) for split in SPLITS}
    if kind == "classes":
        rows = class_rows(text, data.classes, data.name)
        label_of = torch.full((len(data.classes),), -1)
        label_of[rows] = torch.arange(len(rows))
        kept = {split: part.take((label_of[part.labels] >= 0).nonzero().flatten()) for split, part in parts.items()}
        renumbered = {split: Part(part.images, label_of[part.labels]) for split, part in kept.items()}
        return DataSet(data.name, tuple(data.classes[row] for row in rows), **renumbered)
    changed = {split: Part(apply_variants(part.images, [text]), part.labels) for split, part in parts.items()}
    return DataSet(data.name, data.classes, **changed)


def from_arrays(
    name: str, images: Tensor, labels: Tensor, classes: tuple[str, ...], sizes: tuple[float, float] = (0.6, 0.2)
) -> DataSet:
    """A data set from one pool of examples, split by class from a fixed seed; `sizes` are train's and val's shares."""
    order = _stratified(labels, [sizes[0], sizes[1], 1 - sum(sizes)])
    return DataSet(name, classes, *(Part(images[i], labels[i]) for i in order))


def _stratified(labels: Tensor, shares: list[float]) -> list[Tensor]:
    """Indices of each share; the examples of a class are dealt so that every share has its part of each class."""
    generator = torch.Generator().manual_seed(_SPLIT_SEED)
    shuffled = torch.randperm(len(labels), generator=generator)
    labels_of = labels[shuffled]
    # position of each example within its class, in (0, 1): cutting there stratifies, and the sizes are exact to one
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        where = (labels_of == label).nonzero().flatten()
        place[where] = (torch.arange(len(where), dtype=torch.float64) + 0.5) / len(where)
    order = shuffled[place.argsort(stable=True)]
    ends = [round(len(labels) * sum(shares[: i + 1])) for i in range(len(shares))]
    return [order[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _digits(name: str) -> DataSet:
    from sklearn.datasets import load_digits  # takes a second, which the workers of a search are spared

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).float().unsqueeze(1) / 16
    labels = torch.from_numpy(bunch.target).long()
    total = len(labels)
    return from_arrays(name, images, labels, tuple("0123456789"), (1000 / total, 300 / total))


def _npz(name: str, path: Path) -> DataSet:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, TypeError, BadZipFile) as error:
        raise BrokenFile(
            f"{path} cannot be read as .npz", str(error), "Write it with numpy.savez_compressed."
        ) from error
    has_test = {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys()
    if not has_test and not {"x", "y"} <= arrays.keys():
        raise BadInput(
            f"{path} holds {sorted(arrays)}",
            "needed: x and y, or x_train, y_train, x_test, y_test",
            "Rename the arrays.",
        )
    splits = [""] if not has_test else [f"_{split}" for split in SPLITS if f"x_{split}" in arrays]
    parts = [_part(arrays, suffix, path) for suffix in splits]
    top = 1 + max(int(part.labels.max()) for part in parts)
    classes = tuple(str(c) for c in arrays["classes"]) if "classes" in arrays else tuple(map(str, range(top)))
    if top > len(classes):
        raise BadInput(f"{path} has the label {top - 1}", f"`classes` names {len(classes)}, from 0", "Add the names.")
    if not has_test:
        return from_arrays(name, parts[0].images, parts[0].labels, classes)
    if len(parts) == 3:
        return DataSet(name, classes, *parts)
    train, test = parts
    keep, held = _stratified(train.labels, [0.8, 0.2])
    return DataSet(name, classes, train.take(keep), train.take(held), test)


def _part(arrays: dict[str, np.ndarray], suffix: str, path: Path) -> Part:
    """Images and labels `x{suffix}` and `y{suffix}`, checked against each other."""
    x, y = arrays[f"x{suffix}"], arrays.get(f"y{suffix}", np.zeros(0))
    whole = np.issubdtype(y.dtype, np.integer) or (np.issubdtype(y.dtype, np.floating) and bool((y == y.round()).all()))
    if y.size != len(y) or not whole or len(y) != len(x) or len(y) == 0 or y.min() < 0:
        raise BadInput(
            f"y{suffix} of {path} does not fit x{suffix}",
            f"x has shape {x.shape}, y has shape {y.shape} and type {y.dtype}",
            "Give one whole number from 0 for each image: its class.",
        )
    return Part(_images(x, path), torch.from_numpy(y.astype(np.int64)).flatten())


def _images(array: np.ndarray, path: Path) -> Tensor:
    """uint8 (or float in [0, 1]) of shape (n, h, w), (n, h, w, c) or (n, c, h, w) as float (n, c, h, w) in [0, 1]."""
    images = torch.from_numpy(array)
    images = images.float() / 255 if array.dtype == np.uint8 else images.float()
    if images.dim() == 3:
        images = images.unsqueeze(1)
    elif images.dim() == 4 and images.shape[-1] in (1, 3) and images.shape[1] not in (1, 3):
        images = images.permute(0, 3, 1, 2)
    if images.dim() != 4 or images.shape[1] not in (1, 3) or not ((images >= 0) & (images <= 1)).all():
        raise BadInput(
            f"images of {path} are not usable",
            f"shape {tuple(array.shape)}, {array.dtype}",
            "Use uint8, or floats in [0, 1], as (n, h, w[, c]).",
        )
    return images.contiguous()


def _folder(name: str, root: Path) -> DataSet:
    """`root/{train,val,test}/CLASS/image`, or `root/CLASS/image` which is then split."""
    if not root.is_dir():
        raise BadInput(f"{root} is not a folder", "folder: reads a folder per class", "Use npz: for an .npz file.")
    own = [s for s in SPLITS if (root / s).is_dir()]
    roots = {s: root / s for s in own} or {"all": root}
    if own and "train" not in own:
        raise BadInput(f"{root} has {', '.join(own)} but no train folder", "", "Add it, or keep only class folders.")
    classes = tuple(sorted(p.name for p in roots["train" if own else "all"].iterdir() if p.is_dir()))
    if not classes:
        raise BadInput(
            f"{root} has no class folders", "expected FOLDER/CLASS/image.png or FOLDER/train/CLASS/image.png", ""
        )
    parts = {split: _read_folder(where, classes) for split, where in roots.items()}
    if not own:
        return from_arrays(name, parts["all"].images, parts["all"].labels, classes)
    train = parts["train"]
    for split in ("test", "val"):
        if split not in parts:
            keep, held = _stratified(train.labels, [0.8, 0.2])
            train, parts[split] = train.take(keep), train.take(held)
    return DataSet(name, classes, train, parts["val"], parts["test"])


def _read_folder(root: Path, classes: tuple[str, ...]) -> Part:
    images, labels = [], []
    for label, class_name in enumerate(classes):
        for path in sorted(p for p in (root / class_name).glob("*") if p.suffix.lower() in _SUFFIXES):
            try:
                with Image.open(path) as opened:
                    deep = opened.mode in ("I", "I;16")  # 16 bits; convert("L") would clip them
                    array = np.asarray(opened if deep else opened.convert("L" if opened.mode in ("L", "1") else "RGB"))
            except OSError as error:
                raise BrokenFile(f"{path} is not a readable image", str(error), "Remove or replace it.") from error
            tensor = torch.from_numpy(array.astype(np.float32)) / (65535 if deep else 255)
            images.append(tensor.unsqueeze(0) if tensor.dim() == 2 else tensor.permute(2, 0, 1))
            labels.append(label)
    if not images:
        raise BadInput(
            f"{root} holds no images", f"looked for {', '.join(sorted(_SUFFIXES))} in {len(classes)} class folders", ""
        )
    shapes = {tuple(i.shape) for i in images}
    if len(shapes) > 1:
        raise BadInput(
            f"images under {root} differ in shape", f"{sorted(shapes)[:3]}", "Resize them to one size and one mode."
        )
    return Part(torch.stack(images), torch.tensor(labels))


def fit_images(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Images in a network's input shape: resized (bilinear, antialiased), grey repeated to colour, colour averaged to grey."""
    c, h, w = shape
    if images.shape[1] != c:
        images = (
            images.expand(-1, c, -1, -1)
            if images.shape[1] == 1
            else images.mean(dim=1, keepdim=True).expand(-1, c, -1, -1)
        )
    if tuple(images.shape[-2:]) != (h, w):
        images = F.interpolate(images, (h, w), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)
    return images.contiguous()


_BUILTIN: dict[str, Callable[[str], DataSet]] = {"digits": _digits}
