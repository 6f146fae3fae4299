"""Reads the user's own files: `npz:FILE`, arrays of images, and `folder:FOLDER`, a folder of images a class."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from popgen.data.dataset import SPLITS, DataSet, Part, from_parts
from popgen.data.sources.gather import SUFFIXES, UnreadImages, gather, read_image
from popgen.errors import BadInput, BrokenFile


def load_npz(name: str, path: Path) -> DataSet:
    """Load a data set from the arrays of an .npz file.

    They are `x` and `y`, which are split here, or `x_train`, `y_train`, `x_test` and `y_test`, with or without `x_val`
    and `y_val`. An array `classes` may hold the class names; without it they are the class indices as text.

    Raises:
        BrokenFile: the file is not a readable .npz.
        BadInput: arrays are missing, or the images, labels and class names do not fit together.
    """
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
    suffixes = [""] if not has_test else [f"_{split}" for split in SPLITS if f"x_{split}" in arrays]
    parts = {suffix: _part(arrays, suffix, path) for suffix in suffixes}
    needed = 1 + max(int(part.targets.max()) for part in parts.values())
    classes = tuple(str(c) for c in arrays["classes"]) if "classes" in arrays else tuple(map(str, range(needed)))
    if needed > len(classes):
        raise BadInput(
            f"{path} has the label {needed - 1}", f"`classes` names {len(classes)}, from 0", "Add the names."
        )
    return from_parts(name, classes, {suffix.removeprefix("_") or "all": part for suffix, part in parts.items()})


def _part(arrays: dict[str, np.ndarray], suffix: str, path: Path) -> Part:
    """Check the arrays `x{suffix}` and `y{suffix}` against each other and make a split of them."""
    x, y = arrays[f"x{suffix}"], arrays.get(f"y{suffix}", np.zeros(0))
    whole = np.issubdtype(y.dtype, np.integer) or (np.issubdtype(y.dtype, np.floating) and bool((y == y.round()).all()))
    if y.size != len(y) or not whole or len(y) != len(x) or len(y) == 0 or y.min() < 0:
        raise BadInput(
            f"y{suffix} of {path} does not fit x{suffix}",
            f"x has shape {x.shape}, y has shape {y.shape} and type {y.dtype}",
            "Give one whole number from 0 for each image: its class.",
        )
    return Part(to_images(x, path), torch.from_numpy(y.astype(np.int64)).flatten())


def to_images(array: np.ndarray, path: Path) -> Tensor:
    """Convert an array of images to a float tensor of shape (n, c, h, w) with values in [0, 1].

    Args:
        array: uint8, or floats in [0, 1], of shape (n, h, w), (n, h, w, c) or (n, c, h, w) with 1 or 3 channels.
        path: names the source in the error.

    Raises:
        BadInput: the array has another shape, or values outside the range.
    """
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


def load_folder(name: str, root: Path, size: int | None = None) -> DataSet:
    """Load image files `root/{train,val,test}/CLASS/image`, or `root/CLASS/image`, which are split here.

    Args:
        size: the side in pixels that images are resized and cropped to (see `popgen.data.sources.gather`). If None, all
            images must have the same size.

    Raises:
        BrokenFile: an image cannot be read.
        BadInput: the folder has another layout or no images, or the images differ in size.
    """
    classes, files = list_folder(root)
    parts, remarks = gather(name, {split: _unread(listed) for split, listed in files.items()}, size)
    return from_parts(name, classes, parts, remarks)


def list_folder(root: Path) -> tuple[tuple[str, ...], dict[str, list[tuple[Path, int]]]]:
    """List the class names of a folder, and the files and labels of each of its splits in reading order.

    A folder without splits has the single split `all`.

    Raises:
        BadInput: `root` is not a folder that has a folder of images for each class.
    """
    if not root.is_dir():
        raise BadInput(f"{root} is not a folder", "folder: reads a folder per class", "Use npz: for an .npz file.")
    splits = [split for split in SPLITS if (root / split).is_dir()]
    roots = {split: root / split for split in splits} or {"all": root}
    if splits and "train" not in splits:
        raise BadInput(f"{root} has {', '.join(splits)} but no train folder", "", "Add it, or keep only class folders.")
    classes = tuple(sorted(p.name for p in roots["train" if splits else "all"].iterdir() if p.is_dir()))
    if not classes:
        raise BadInput(
            f"{root} has no class folders", "expected FOLDER/CLASS/image.png or FOLDER/train/CLASS/image.png", ""
        )
    return classes, {split: _list_images(folder, classes) for split, folder in roots.items()}


def _list_images(root: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    found = [
        (path, label)
        for label, class_name in enumerate(classes)
        for path in sorted(p for p in (root / class_name).glob("*") if p.suffix.lower() in SUFFIXES)
    ]
    if not found:
        raise BadInput(
            f"{root} holds no images", f"looked for {', '.join(sorted(SUFFIXES))} in {len(classes)} class folders", ""
        )
    return found


def _unread(files: list[tuple[Path, int]]) -> UnreadImages:
    return UnreadImages(len(files), lambda i: (read_image(files[i][0]), files[i][1]))
