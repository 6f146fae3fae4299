"""Loads torchvision's classification data sets from the data folder, by torchvision's name in lower case.

The files `DATA_DIR/NAME.npz` and `DATA_DIR/NAME/NAME.npz` are looked for first, then CIFAR's binary version, then the
layout that torchvision's class reads. If none is there, torchvision downloads the data set and checks its archives.
Splits are the source's own; without a validation split, a fifth of each class of the training split is held back,
always the same images.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from popgen.data.dataset import DataSet, Part, from_parts
from popgen.data.images.reader import pixels_of
from popgen.data.sources import binary
from popgen.data.sources.arrays import load_npz, to_images
from popgen.data.sources.catalogue import CATALOGUE, NamedSource
from popgen.data.sources.gather import UnreadImages, centre_square, check_bytes, gather
from popgen.errors import BrokenFile, Offline, PopgenError, brief


def load_named(name: str, base: str, size: int | None, root: Path) -> DataSet:
    """Load the data set `base` of the catalogue from the data folder, or download it there first.

    Args:
        name: the name of the result.
        size: the side in pixels that images are resized and cropped to. If None, it is the data set's default; data
            sets whose images are all of one small size have none and keep it.
        root: the data folder.

    Raises:
        Offline: the data set is not in the folder and cannot be downloaded.
        BrokenFile: a file is truncated or altered.
        BadInput: the images need more memory than is allowed (`popgen.data.sources.gather.MAX_BYTES`).
    """
    entry = CATALOGUE[base]
    for file in (root / f"{base}.npz", root / base / f"{base}.npz"):
        if file.exists():
            return resize_data(load_npz(name, file), size)
    for folder in (root, root / base):
        cifar = binary.read_cifar(base, name, folder)
        if cifar is not None:
            return resize_data(cifar, size)
    folder = next((folder for folder in (root, root / base) if _has_files(folder, entry)), root)
    if not _has_files(folder, entry):
        _download(base, entry, root)
    remarks = binary.check_published(base, folder)
    sets = {
        split: _open_split(base, entry, folder, kwargs, skip_md5=bool(remarks))
        for split, kwargs in entry.splits.items()
    }
    size = size or entry.size
    parts, resized = _read_arrays(name, entry, sets, size) or _read_one_by_one(name, folder, sets, size)
    classes = _classes(entry, next(iter(sets.values())), parts)
    return from_parts(name, classes, parts, remarks + resized)


def is_named_here(base: str, root: Path) -> bool:
    """Whether the data folder `root` has the data set `base` of the catalogue, in any of its layouts."""
    folders = (root, root / base)
    files = [folder / f"{base}.npz" for folder in folders]
    cifar = [folder / binary.CIFAR[base].folder for folder in folders if base in binary.CIFAR]
    return any(path.exists() for path in files + cifar) or any(_has_files(f, CATALOGUE[base]) for f in folders)


def resize_data(data: DataSet, size: int | None) -> DataSet:
    """Resize and crop all images of a data set to squares of `size` pixels; None leaves them as they are."""
    if size is None or data.shape[1:] == (size, size):
        return data
    h, w = data.shape[1:]
    remark = f"images of {h}x{w}: shorter side resized to {size}, centre {size}x{size} kept"
    resized = data.each(lambda part: Part(centre_square(part.inputs, size), part.targets))
    return replace(resized, remarks=(*data.remarks, remark))


def _has_files(folder: Path, entry: NamedSource) -> bool:
    return all((folder / need).exists() for need in entry.needs)


def _open_split(base: str, entry: NamedSource, folder: Path, kwargs: dict[str, Any], skip_md5: bool) -> Any:
    """Make torchvision's object of one split.

    Args:
        skip_md5: skip torchvision's check of md5 sums, because `binary.check_published` has found usable files that
            differ.
    """
    from torchvision import datasets  # The import takes a second.

    dataset_class = getattr(datasets, entry.torchvision_class)
    if skip_md5:
        dataset_class = type(entry.torchvision_class, (dataset_class,), {"_check_integrity": lambda _: True})
    try:
        return dataset_class(str(folder), **kwargs)
    except ImportError as error:
        raise _missing_package(base, error) from error
    except Exception as error:  # torchvision's readers raise errors of many types.
        if "not found. This dataset needs" in str(error):
            raise _missing_package(base, error) from error
        paths = [str(folder / need) for need in entry.needs]
        raise BrokenFile(
            f"{', '.join(binary.damaged_files(folder, entry.needs) or paths)} cannot be read as {base!r}",
            brief(error),
            f"Remove it, and put it there again: {_where_to_get(entry, folder)}.",
        ) from error


def _missing_package(base: str, error: Exception) -> Offline:
    package = getattr(error, "name", None) or str(error).split()[0]
    return Offline(f"{base!r} cannot be read without {package}", brief(error), f"pip install {package}")


def _download(base: str, entry: NamedSource, root: Path) -> None:
    """Let torchvision download a data set, or unpack the archives that the user has put into the folder.

    Raises:
        BrokenFile: an archive that is there has an md5 sum that differs from the published one.
        Offline: nothing can be downloaded; says which files were looked for, and where to get them.
    """
    from torchvision import datasets

    archive_files = [root / archive.folder / archive.file for archive in entry.archives]
    broken = [
        archive
        for archive, file in zip(entry.archives, archive_files, strict=True)
        if file.exists() and not binary.has_md5(file, archive.md5)
    ]
    why = f"looked for {', '.join(entry.needs)}, or {base}.npz, in {root} and {root / base}"
    todo = f"{_where_to_get(entry, root)}. Or set --data-dir (POPGEN_DATA) to the folder that has it."
    if broken:
        raise BrokenFile(
            f"{root / broken[0].folder / broken[0].file} is truncated or altered",
            f"its md5 sum is not {broken[0].md5}",
            "Remove it, and download it again.",
        )
    has_archives = bool(archive_files) and all(file.exists() for file in archive_files)
    if not entry.downloads and not has_archives:
        raise Offline(f"data set {base!r} is not there", f"{why}; torchvision has no download of it", todo)
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE") and not has_archives:
        raise Offline(f"data set {base!r} is not there", f"{why}; HF_HUB_OFFLINE forbids a download", todo)
    dataset_class = getattr(datasets, entry.torchvision_class)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(sys.stderr):  # torchvision prints, but stdout is for results.
            for kwargs in entry.splits.values():
                if not _has_files(root, entry):
                    dataset_class(str(root), **kwargs, download=True)
    except ImportError as error:
        raise _missing_package(base, error) from error
    except Exception as error:  # The network, the unpacking and the parsing raise errors of many types.
        raise Offline(f"data set {base!r} could not be downloaded", f"{brief(error)}; {why}", todo) from error


def _where_to_get(entry: NamedSource, root: Path) -> str:
    """Instructions for the user: which files to put where."""
    if not entry.archives:
        return f"Put {', '.join(entry.needs)} into {root} by hand ({entry.page})"
    by_source: dict[tuple[str, str], list[str]] = {}  # files by the URL of their folder and the folder they go to
    for archive in entry.archives:
        by_source.setdefault((archive.url.removesuffix(archive.file), archive.folder), []).append(archive.file)
    texts = [f"{', '.join(files)} from {url} into {root / folder}" for (url, folder), files in by_source.items()]
    return f"Download {'; '.join(texts)}; popgen unpacks it"


def _read_arrays(
    name: str, entry: NamedSource, sets: dict[str, Any], size: int | None
) -> tuple[dict[str, Part], tuple[str, ...]] | None:
    """Make the splits of torchvision objects that hold all pixels in one array, `data`; also return remarks.

    The result is None if the objects hold file names instead.
    """
    if not all(
        hasattr(split_set, "data") and len(getattr(split_set.data, "shape", ())) in (3, 4)
        for split_set in sets.values()
    ):
        return None
    parts = {}
    for split, split_set in sets.items():
        array = split_set.data.numpy() if isinstance(split_set.data, torch.Tensor) else split_set.data
        check_bytes(name, sum(len(s) for s in sets.values()), (1 if array.ndim == 3 else 3, *_sides(array)))
        labels = torch.as_tensor(split_set.labels if hasattr(split_set, "labels") else split_set.targets).long()
        labels = labels if labels.dim() == 1 else labels[:, 0]  # QMNIST has the class in the first of several columns
        images = to_images(array.swapaxes(1, 2) if entry.transposed else array, Path(name))
        parts[split] = Part(images, labels)
    remarks: tuple[str, ...] = ()
    h, w = next(iter(parts.values())).inputs.shape[-2:]
    if size is not None and (h, w) != (size, size):
        parts = {split: Part(centre_square(part.inputs, size), part.targets) for split, part in parts.items()}
        remarks = (f"images of {h}x{w}: shorter side resized to {size}, centre {size}x{size} kept",)
    return parts, remarks


def _sides(array: Any) -> tuple[int, int]:
    """The height and width of images of shape (n, h, w), (n, h, w, 3) or (n, c, h, w)."""
    h, w = array.shape[1:3] if array.ndim == 3 or array.shape[-1] == 3 else array.shape[2:]
    return int(h), int(w)


def _read_one_by_one(
    name: str, folder: Path, sets: dict[str, Any], size: int | None
) -> tuple[dict[str, Part], tuple[str, ...]]:
    """Make the splits by reading one image after the other from torchvision's objects; also return remarks."""

    def unread(split_set: Any) -> UnreadImages:
        def read(i: int) -> tuple[Any, int]:
            try:
                image, label = split_set[i]
                # Others train on these images as torchvision gives them, so that they are not turned by their EXIF data.
                return pixels_of(image, upright=False), int(label)
            except PopgenError:
                raise
            except Exception as error:  # PIL, h5py and missing files raise errors of many types.
                raise BrokenFile(
                    f"{_file_of(split_set, i) or folder} is not a readable image", brief(error), "Remove or replace it."
                ) from error

        return UnreadImages(len(split_set), read)

    gathered = gather(name, {split: unread(split_set) for split, split_set in sets.items()}, size)
    return gathered.parts, gathered.remarks


def _file_of(split_set: Any, i: int) -> str:
    """The path of image i of a torchvision object, or "" if it is unknown.

    torchvision's classes keep their lists of paths under different names.
    """
    for attribute in ("_image_files", "_images", "_samples", "samples"):
        if hasattr(split_set, attribute):
            entry = getattr(split_set, attribute)[i]
            return str(entry[0] if isinstance(entry, tuple) else entry)
    return ""


def _classes(entry: NamedSource, split_set: Any, parts: dict[str, Part]) -> tuple[str, ...]:
    """The class names of the catalogue, else of torchvision's object `split_set`, else the class indices as text."""
    fallback = binary.STL10_CLASSES if entry.torchvision_class == "STL10" else None
    found = entry.classes or getattr(split_set, "classes", None) or getattr(split_set, "categories", fallback)
    if found is None:
        found = range(1 + max(int(part.targets.max()) for part in parts.values()))
    return tuple(c[0] if isinstance(c, tuple) else str(c) for c in found)
