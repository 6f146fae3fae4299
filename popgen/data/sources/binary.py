"""Reads CIFAR's binary batches, compares files of named data sets with published md5 sums and finds damaged files.

torchvision's CIFAR batches are pickles. They are read only if their md5 sums are those of the published files; all
other images must come as CIFAR's binary version (`cifar-10-batches-bin`, `cifar-100-binary`) or as .npz.
"""

from __future__ import annotations

import bz2
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from popgen.data.dataset import DataSet, Part, from_parts
from popgen.errors import BrokenFile

STL10_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
_STL10_BYTES = 3 * 96 * 96  # the bytes of one image of STL-10
_CIFAR_BYTES = 3 * 32 * 32  # the bytes of one image of CIFAR, without its labels
_CIFAR_IMAGES = {"train": 50_000, "test": 10_000}  # the images in each split of the published CIFAR-10 and CIFAR-100


@dataclass(frozen=True)
class CifarLayout:
    """The files of CIFAR's binary version (https://www.cs.toronto.edu/~kriz/cifar.html)."""

    folder: str
    batches: dict[str, list[str]]  # the files of each split
    label_bytes: int  # the number of label bytes in front of each image; the last of them is the class
    class_names: str  # the text file of the class names, one a line


CIFAR = {
    "cifar10": CifarLayout(
        "cifar-10-batches-bin",
        {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]},
        1,
        "batches.meta.txt",
    ),
    "cifar100": CifarLayout(
        "cifar-100-binary", {"train": ["train.bin"], "test": ["test.bin"]}, 2, "fine_label_names.txt"
    ),
}


def has_md5(file: Path, md5: str | None) -> bool:
    """Whether the file has that md5 sum; True if `md5` is None, as no sum is published then."""
    if md5 is None:
        return True
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "md5").hexdigest() == md5


def read_cifar(base: str, name: str, root: Path) -> DataSet | None:
    """Read CIFAR's binary version below `root`; return None if its folder is not there, or `base` is not CIFAR.

    Raises:
        BrokenFile: a batch or the file of the class names is missing, or a batch is truncated or has an unknown label.
    """
    if base not in CIFAR or not (root / CIFAR[base].folder).is_dir():
        return None
    layout = CIFAR[base]
    folder = root / layout.folder
    classes = tuple(_content(folder / layout.class_names).decode().split())
    parts = {
        split: _read_batches([folder / file for file in files], layout.label_bytes, len(classes))
        for split, files in layout.batches.items()
    }
    other_counts = [
        f"{len(parts[split])} {split} images instead of {n}"
        for split, n in _CIFAR_IMAGES.items()
        if len(parts[split]) != n
    ]
    remarks = (f"{folder} is not the published {base}: {', '.join(other_counts)}",) if other_counts else ()
    return from_parts(name, classes, parts, remarks)


def _read_batches(files: list[Path], label_bytes: int, class_count: int) -> Part:
    """Read the batches of one split. Each image is a row of its labels and then its red, green and blue pixels."""
    images, labels = [], []
    for file in files:
        content = np.frombuffer(_content(file), dtype=np.uint8)
        if len(content) == 0 or len(content) % (label_bytes + _CIFAR_BYTES):
            raise BrokenFile(
                f"{file} is truncated",
                f"{len(content)} bytes are not whole rows of {label_bytes} + {_CIFAR_BYTES}",
                "Put the file there again.",
            )
        rows = content.reshape(-1, label_bytes + _CIFAR_BYTES)
        classes = rows[:, label_bytes - 1]
        if classes.max() >= class_count:
            raise BrokenFile(
                f"{file} has the label {classes.max()}",
                f"there are {class_count} classes",
                "Put the file there again.",
            )
        images.append(torch.from_numpy(rows[:, label_bytes:].reshape(-1, 3, 32, 32).astype(np.float32) / 255))
        labels.append(torch.from_numpy(classes.astype(np.int64)))
    return Part(torch.cat(images), torch.cat(labels))


def _content(file: Path) -> bytes:
    """The bytes of a file; raises BrokenFile if it cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise BrokenFile(f"{file} cannot be read", error.strerror or str(error), "Put the file there.") from error


def check_published(base: str, root: Path) -> tuple[str, ...]:
    """Compare files below `root` with the published md5 sums; return a remark if usable files differ.

    Only CIFAR, STL-10 and SVHN are compared.

    Raises:
        BrokenFile: CIFAR's pickles differ from the published ones, or STL-10's files do and are truncated or have wrong
            labels.
    """
    from torchvision import datasets

    if base in CIFAR:
        dataset_class = datasets.CIFAR10 if base == "cifar10" else datasets.CIFAR100
        meta = dataset_class.meta
        files = [*dataset_class.train_list, *dataset_class.test_list, [meta["filename"], meta["md5"]]]
        for file, md5 in files:
            path = root / dataset_class.base_folder / file
            if not path.is_file() or not has_md5(path, md5):
                raise BrokenFile(
                    f"{path} is {'truncated or altered' if path.exists() else 'missing'}",
                    f"it would be unpickled, which only the published file is (md5 {md5})",
                    f"Restore it, or put {CIFAR[base].folder} or {base}.npz there, which are not pickles.",
                )
        return ()
    if base == "stl10":
        folder, files = root / datasets.STL10.base_folder, [*datasets.STL10.train_list[:2], *datasets.STL10.test_list]
        other = [file for file, md5 in files if not has_md5(folder / file, md5)]
        if other:
            _check_stl10(folder)
    elif base == "svhn":
        folder, files = root, [entry[1:] for split, entry in datasets.SVHN.split_list.items() if split != "extra"]
        other = [file for file, md5 in files if not has_md5(folder / file, md5)]
    else:
        return ()
    return (f"{', '.join(other)} in {folder} are not the published files of {base} (md5)",) if other else ()


def _check_stl10(folder: Path) -> None:
    """Raise BrokenFile if the files of images and labels differ in length, or a label is not one of a class."""
    names = folder / "class_names.txt"
    class_count = len(names.read_text().split()) if names.exists() else len(STL10_CLASSES)
    for split in ("train", "test"):
        images, labels = folder / f"{split}_X.bin", np.fromfile(folder / f"{split}_y.bin", dtype=np.uint8)
        size = images.stat().st_size
        if size % _STL10_BYTES or size == 0 or size // _STL10_BYTES != len(labels):
            raise BrokenFile(
                f"{images} is truncated, or {split}_y.bin is",
                f"{size} bytes are {size / _STL10_BYTES:.2f} images of 3x96x96, for {len(labels)} labels",
                "Put both files there again.",
            )
        if labels.min() < 1 or labels.max() > class_count:
            raise BrokenFile(
                f"{folder / f'{split}_y.bin'} has the labels {labels.min()} to {labels.max()}",
                f"STL-10 counts its {class_count} classes from 1",
                "Put the file there again.",
            )


def damaged_files(root: Path, needs: tuple[str, ...]) -> list[str]:
    """The files `needs` below `root` that cannot be read; only .mat, .bz2 and MNIST's idx files are tried."""
    from scipy.io import loadmat
    from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

    found = []
    for file in (root / need for need in needs):
        try:
            if file.suffix == ".mat":
                loadmat(file)
            elif file.suffix == ".bz2":
                bz2.decompress(file.read_bytes())
            elif "-idx" in file.name:
                read_sn3_pascalvincent_tensor(str(file))
        except Exception:  # The readers raise errors of many types, and any of them means that the file is damaged.
            found.append(str(file))
    return found
