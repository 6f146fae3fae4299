"""Reads `npz:FILE`, arrays of images and labels in one file of NumPy."""

from __future__ import annotations

import math
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch
from torch import Tensor

from popgen.data.dataset import SPLITS, DataSet, Part, from_parts, numbered_classes
from popgen.data.sources.gather import MAX_BYTES
from popgen.errors import BadInput, BrokenFile, PopgenError, brief

_MOST_INFLATED = 1100  # bytes that one compressed byte can become: 1,032 by deflate, and some for what surrounds it


def load_npz(name: str, path: Path, alpha: str = "white") -> DataSet:
    """Load a data set from the arrays of an .npz file.

    They are `x` and `y`, which are split here, or `x_train`, `y_train`, `x_test` and `y_test`, with or without `x_val`
    and `y_val`. An array `classes` may hold the class names; without it they are the class indices as text.

    Args:
        alpha: what lies behind transparent pixels, where images have four channels (see `popgen.data.images.reader`).

    Raises:
        BrokenFile: the file is not a readable .npz.
        BadInput: arrays are missing or too large, or the images, labels and class names do not fit together.
    """
    arrays = _read_archive(path)
    has_test = {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys()
    if not has_test and not {"x", "y"} <= arrays.keys():
        raise BadInput(
            f"{path} holds {sorted(arrays)}",
            "needed: x and y, or x_train, y_train, x_test, y_test",
            "Rename the arrays.",
        )
    suffixes = [""] if not has_test else [f"_{split}" for split in SPLITS if f"x_{split}" in arrays]
    parts = {suffix: _part(arrays, suffix, path, alpha) for suffix in suffixes}
    shapes = sorted({tuple(part.inputs.shape[1:]) for part in parts.values()})
    if len(shapes) > 1:
        raise BadInput(f"the splits of {path} have images of different shapes", f"{shapes}", "Give them one shape.")
    highest = max(int(part.targets.max()) for part in parts.values())
    classes = tuple(map(str, arrays["classes"].flatten())) if "classes" in arrays else numbered_classes(name, highest)
    if highest >= len(classes):
        raise BadInput(f"{path} has the label {highest}", f"`classes` names {len(classes)}, from 0", "Add the names.")
    return from_parts(name, classes, {suffix.removeprefix("_") or "all": part for suffix, part in parts.items()})


def _read_archive(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file that a data set may use, after their headers have been checked."""
    try:
        _check_headers(path)
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except PopgenError:
        raise
    except Exception as error:  # The readers of zip files and of array headers raise errors of many types.
        raise BrokenFile(
            f"{path} cannot be read as .npz", brief(error), "Write it with numpy.savez_compressed."
        ) from error


def _check_headers(path: Path) -> None:
    """Refuse arrays whose headers claim more bytes than their part of the file can hold, or more than are read.

    Deflate, the compression of .npz files, makes at most 1,032 bytes of one.
    """
    total = 0
    with ZipFile(path) as archive:
        for entry in archive.infolist():
            if not entry.filename.endswith(".npy"):
                continue
            with archive.open(entry) as member:
                version = np.lib.format.read_magic(member)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(member)
            if dtype.hasobject:
                continue  # numpy.load refuses these with a message of its own.
            claimed = math.prod(shape) * dtype.itemsize
            total += claimed
            if claimed > entry.file_size or entry.file_size > _MOST_INFLATED * max(1, entry.compress_size):
                raise BrokenFile(
                    f"{entry.filename} of {path} is truncated or altered",
                    f"its header says {dtype} of shape {shape}, and its part of the file is too small for that",
                    "Write it again with numpy.savez_compressed.",
                )
    if total > MAX_BYTES:
        raise BadInput(
            f"{path} needs {total / 2**30:.0f} GiB of memory",
            f"at most {MAX_BYTES / 2**30:.0f} GiB are read",
            "Store fewer or smaller images, as uint8.",
        )


def _part(arrays: dict[str, np.ndarray], suffix: str, path: Path, alpha: str) -> Part:
    """Check the arrays `x{suffix}` and `y{suffix}` against each other and make a split of them."""
    x, y = arrays[f"x{suffix}"], arrays.get(f"y{suffix}", np.zeros(0))
    whole = np.issubdtype(y.dtype, np.integer) or (np.issubdtype(y.dtype, np.floating) and bool((y == y.round()).all()))
    fits = x.ndim > 0 and y.ndim > 0 and y.size == len(y) == len(x) and len(y) > 0
    if not fits or not whole or y.min() < 0 or y.max() > np.iinfo(np.int64).max:
        raise BadInput(
            f"y{suffix} of {path} does not fit x{suffix}",
            f"x has shape {x.shape}, y has shape {y.shape} and type {y.dtype}",
            "Give one whole number from 0 for each image: its class.",
        )
    return Part(to_images(x, path, alpha), torch.from_numpy(y.astype(np.int64)).flatten())


def to_images(array: np.ndarray, path: Path, alpha: str = "white") -> Tensor:
    """Convert an array of images to a float tensor of shape (n, c, h, w) with values in [0, 1].

    Args:
        array: uint8, uint16, bool, or floats in [0, 1], of shape (n, h, w), (n, h, w, c) or (n, c, h, w) with 1 or 3
            channels, or 4, of which the last is the opacity.
        path: names the source in the error.
        alpha: what lies behind transparent pixels, one of popgen.data.images.reader.ALPHAS.

    Raises:
        BadInput: the array has another shape or type, or values outside the range.
    """
    images = _with_channels(_scaled(array))
    if images is None or not ((images >= 0) & (images <= 1)).all():
        raise BadInput(
            f"images of {path} are not usable",
            f"shape {tuple(array.shape)}, {array.dtype}",
            "Use uint8, or floats in [0, 1], as (n, h, w[, c]).",
        )
    if images.shape[1] == 4:
        colours, opacity = images[:, :3], images[:, 3:]
        behind = 1 - opacity if alpha == "white" else torch.zeros_like(opacity)
        images = colours if alpha == "ignore" else (colours * opacity + behind).clamp(0, 1)
    return images.contiguous()


def _scaled(array: np.ndarray) -> Tensor | None:
    """The array as float32, whole numbers scaled by their highest value; None if its type has no known range."""
    highest = {"uint8": 255, "uint16": 65535}.get(array.dtype.name)
    if highest is not None:
        return torch.from_numpy(array.astype(np.float32)) / highest
    return torch.from_numpy(array.astype(np.float32, copy=False)) if array.dtype.kind in "fb" else None


def _with_channels(images: Tensor | None) -> Tensor | None:
    """The images as (n, c, h, w) with 1, 3 or 4 channels, or None if their shape is another one."""
    if images is None:
        return None
    if images.dim() == 3:
        return images.unsqueeze(1)
    if images.dim() != 4 or images.numel() == 0:
        return None
    if images.shape[1] in (1, 3):
        return images
    if images.shape[-1] in (1, 3, 4):
        return images.permute(0, 3, 1, 2)
    return images if images.shape[1] == 4 else None
