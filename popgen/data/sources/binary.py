"""Files of named data sets that are checked or read here: md5 sums, CIFAR's binary batches, what is wrong with a damaged file.

torchvision's CIFAR batches are pickles. They are read only where their md5 sums are those of the published files; anything else
must come in CIFAR's binary version (`cifar-10-batches-bin`, `cifar-100-binary`) or as .npz.
"""

from __future__ import annotations

import bz2
import hashlib
from pathlib import Path

import numpy as np
import torch

from popgen.data.dataset import DataSet, Part, from_parts
from popgen.errors import BrokenFile

STL10_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
_STL10_BYTES = 3 * 96 * 96
_PIXELS = 3 * 32 * 32
# folder, files of training and test, bytes of labels before each image (the last is the class), file of the classes' names
CIFAR = {
    "cifar10": (
        "cifar-10-batches-bin",
        {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]},
        1,
        "batches.meta.txt",
    ),
    "cifar100": ("cifar-100-binary", {"train": ["train.bin"], "test": ["test.bin"]}, 2, "fine_label_names.txt"),
}
_CIFAR_IMAGES = {"train": 50_000, "test": 10_000}


def has_md5(file: Path, md5: str | None) -> bool:
    """Whether the file has that md5 sum; True where none is known."""
    if md5 is None:
        return True
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "md5").hexdigest() == md5


def read(base: str, name: str, place: Path) -> DataSet | None:
    """CIFAR from its binary version below `place`; None where that is not there.

    Raises:
        BrokenFile: a batch or the classes' names are missing or truncated.
    """
    if base not in CIFAR or not (place / CIFAR[base][0]).is_dir():
        return None
    folder, files, head, names = place / CIFAR[base][0], *CIFAR[base][1:]
    classes = tuple(_content(folder / names).decode().split())
    parts = {split: _batches([folder / file for file in some], head, len(classes)) for split, some in files.items()}
    few = [
        f"{len(parts[split])} {split} images instead of {n}"
        for split, n in _CIFAR_IMAGES.items()
        if len(parts[split]) != n
    ]
    remarks = (f"{folder} is not the published {base}: {', '.join(few)}",) if few else ()
    return from_parts(name, classes, parts, remarks)


def _batches(files: list[Path], head: int, classes: int) -> Part:
    images, labels = [], []
    for file in files:
        content = np.frombuffer(_content(file), dtype=np.uint8)
        if len(content) == 0 or len(content) % (head + _PIXELS):
            raise BrokenFile(
                f"{file} is truncated",
                f"{len(content)} bytes are not whole rows of {head} + {_PIXELS}",
                "Put the file there again.",
            )
        rows = content.reshape(-1, head + _PIXELS)
        if rows[:, head - 1].max() >= classes:
            raise BrokenFile(
                f"{file} has the label {rows[:, head - 1].max()}",
                f"there are {classes} classes",
                "Put the file there again.",
            )
        images.append(torch.from_numpy(rows[:, head:].reshape(-1, 3, 32, 32).astype(np.float32) / 255))
        labels.append(torch.from_numpy(rows[:, head - 1].astype(np.int64)))
    return Part(torch.cat(images), torch.cat(labels))


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BrokenFile(f"{file} cannot be read", error.strerror or str(error), "Put the file there.") from error


def published(base: str, place: Path) -> tuple[str, ...]:
    """A remark where the files are whole, but not the published ones.

    Raises:
        BrokenFile: CIFAR's pickles are not the published ones; or a file of STL-10 is truncated.
    """
    from torchvision import datasets

    if base in CIFAR:
        kind = datasets.CIFAR10 if base == "cifar10" else datasets.CIFAR100
        lists = [*kind.train_list, *kind.test_list, [kind.meta["filename"], kind.meta["md5"]]]
        for file, md5 in lists:
            path = place / kind.base_folder / file
            if not path.is_file() or not has_md5(path, md5):
                raise BrokenFile(
                    f"{path} is {'truncated or altered' if path.exists() else 'missing'}",
                    f"it would be unpickled, which only the published file is (md5 {md5})",
                    f"Restore it, or put {CIFAR[base][0]} or {base}.npz there, which are not pickles.",
                )
        return ()
    if base == "stl10":
        folder, lists = place / datasets.STL10.base_folder, [*datasets.STL10.train_list[:2], *datasets.STL10.test_list]
        other = [file for file, md5 in lists if not has_md5(folder / file, md5)]
        if other:
            _check_stl10(folder)
    elif base == "svhn":
        folder, lists = place, [entry[1:] for split, entry in datasets.SVHN.split_list.items() if split != "extra"]
        other = [file for file, md5 in lists if not has_md5(folder / file, md5)]
    else:
        return ()
    return (f"{', '.join(other)} in {folder} are not the published files of {base} (md5)",) if other else ()


def _check_stl10(folder: Path) -> None:
    names = folder / "class_names.txt"
    classes = len(names.read_text().split()) if names.exists() else len(STL10_CLASSES)
    for split in ("train", "test"):
        images, labels = folder / f"{split}_X.bin", np.fromfile(folder / f"{split}_y.bin", dtype=np.uint8)
        size = images.stat().st_size
        if size % _STL10_BYTES or size == 0 or size // _STL10_BYTES != len(labels):
            raise BrokenFile(
                f"{images} is truncated, or {split}_y.bin is",
                f"{size} bytes are {size / _STL10_BYTES:.2f} images of 3x96x96, for {len(labels)} labels",
                "Put both files there again.",
            )
        if labels.min() < 1 or labels.max() > classes:
            raise BrokenFile(
                f"{folder / f'{split}_y.bin'} has the labels {labels.min()} to {labels.max()}",
                f"STL-10 counts its {classes} classes from 1",
                "Put the file there again.",
            )


def damaged(place: Path, needs: tuple[str, ...]) -> list[str]:
    """Those of the files that cannot be read by themselves, where their format tells."""
    from scipy.io import loadmat
    from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

    found = []
    for file in (place / need for need in needs):
        try:
            if file.suffix == ".mat":
                loadmat(file)
            elif file.suffix == ".bz2":
                bz2.decompress(file.read_bytes())
            elif "-idx" in file.name:
                read_sn3_pascalvincent_tensor(str(file))
        except Exception:  # whatever is raised, this is the file
            found.append(str(file))
    return found
