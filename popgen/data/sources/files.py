"""Users' own files: `npz:FILE` and `folder:FOLDER`."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from popgen.data.dataset import SPLITS, DataSet, Part, from_parts
from popgen.data.sources.gather import SUFFIXES, Pictures, gather, read_image
from popgen.errors import BadInput, BrokenFile


def npz(name: str, path: Path) -> DataSet:
    """Arrays x and y, or x_train, y_train, x_test, y_test and perhaps x_val, y_val; names of the `classes` where given.

    Raises:
        BrokenFile, BadInput: not such a file.
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
    splits = [""] if not has_test else [f"_{split}" for split in SPLITS if f"x_{split}" in arrays]
    parts = {suffix: _part(arrays, suffix, path) for suffix in splits}
    top = 1 + max(int(part.targets.max()) for part in parts.values())
    classes = tuple(str(c) for c in arrays["classes"]) if "classes" in arrays else tuple(map(str, range(top)))
    if top > len(classes):
        raise BadInput(f"{path} has the label {top - 1}", f"`classes` names {len(classes)}, from 0", "Add the names.")
    return from_parts(name, classes, {suffix.removeprefix("_") or "all": part for suffix, part in parts.items()})


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
    return Part(images_of(x, path), torch.from_numpy(y.astype(np.int64)).flatten())


def images_of(array: np.ndarray, path: Path) -> Tensor:
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


def folder(name: str, root: Path, size: int | None = None) -> DataSet:
    """`root/{train,val,test}/CLASS/image`, or `root/CLASS/image` which is then split.

    Args:
        size: images are resized and cropped to it (see `popgen.data.sources.gather`); None: they must have one size.

    Raises:
        BrokenFile, BadInput: not such a folder, images that cannot be read, or of different sizes.
    """
    classes, files = list_folder(root)
    parts, remarks = gather(name, {split: _pictures(found) for split, found in files.items()}, size)
    return from_parts(name, classes, parts, remarks)


def list_folder(root: Path) -> tuple[tuple[str, ...], dict[str, list[tuple[Path, int]]]]:
    """The classes of a folder, and of each of its splits (`all` where it has none) the files and labels, in the order of reading.

    Raises:
        BadInput: not a folder with a folder a class.
    """
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
    return classes, {split: _files(where, classes) for split, where in roots.items()}


def _files(root: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
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


def _pictures(files: list[tuple[Path, int]]) -> Pictures:
    return Pictures(len(files), lambda i: (read_image(files[i][0]), files[i][1]))
