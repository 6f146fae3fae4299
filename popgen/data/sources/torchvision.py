"""The classification sets of torchvision by lower-case name, in the data folder, in the layout that torchvision's class reads.

Splits are the source's own; without a validation split, a fifth of each class of the training split is held back, always the same
images. Before torchvision's files, DATA_DIR/NAME.npz and DATA_DIR/NAME/NAME.npz are looked for. What is missing is downloaded by
torchvision, which checks the archives.
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
from popgen.data.sources import binary
from popgen.data.sources.catalogue import CATALOGUE, Named
from popgen.data.sources.files import images_of, npz
from popgen.data.sources.gather import Pictures, centre_square, check_bytes, gather, pixels_of
from popgen.errors import BrokenFile, Offline, PopgenError, brief


def named(name: str, base: str, size: int | None, root: Path) -> DataSet:
    """The set `base` of the catalogue, read from the data folder or downloaded to it.

    Args:
        name: of the result.
        root: the folder of named data sets.
        size: images are resized and cropped to it; None: the set's default, which sets of one small size have not.

    Raises:
        Offline: not there, and not to be downloaded.
        BrokenFile: files that are truncated or altered.
        BadInput: more bytes than are read.
    """
    entry = CATALOGUE[base]
    for file in (root / f"{base}.npz", root / base / f"{base}.npz"):
        if file.exists():
            return sized(npz(name, file), size)
    for place in (root, root / base):
        found = binary.read(base, name, place)
        if found is not None:
            return sized(found, size)
    place = next((p for p in (root, root / base) if _is_there(p, entry)), root)
    if not _is_there(place, entry):
        _download(base, entry, root)
    remarks = binary.published(base, place)
    sets = {split: _open(base, entry, place, kwargs, not remarks) for split, kwargs in entry.splits.items()}
    size = size or entry.size
    parts, more = _whole(name, entry, sets, size) or _single(name, place, sets, size)
    classes = _classes(entry, next(iter(sets.values())), parts)
    return from_parts(name, classes, parts, remarks + more)


def named_is_there(base: str, root: Path) -> bool:
    """Whether the folder `root` has the set, in any of its forms."""
    files = [place / f"{base}.npz" for place in (root, root / base)]
    folders = [place / binary.CIFAR[base][0] for place in (root, root / base) if base in binary.CIFAR]
    return any(p.exists() for p in files + folders) or any(_is_there(p, CATALOGUE[base]) for p in (root, root / base))


def sized(data: DataSet, size: int | None) -> DataSet:
    """Images that are in memory, resized and cropped to a square."""
    if size is None or data.shape[1:] == (size, size):
        return data
    h, w = data.shape[1:]
    said = f"images of {h}x{w}: shorter side resized to {size}, centre {size}x{size} kept"
    smaller = data.each(lambda part: Part(centre_square(part.inputs, size), part.targets))
    return replace(smaller, remarks=(*data.remarks, said))


def _is_there(place: Path, entry: Named) -> bool:
    return all((place / need).exists() for need in entry.needs)


def _open(base: str, entry: Named, place: Path, kwargs: dict[str, Any], checked: bool) -> Any:
    """torchvision's object; its own check of md5 sums is left out where `binary.published` has said that they differ."""
    from torchvision import datasets  # takes a second

    kind = getattr(datasets, entry.kind)
    if not checked:
        kind = type(entry.kind, (kind,), {"_check_integrity": lambda self: True})
    try:
        return kind(str(place), **kwargs)
    except ImportError as error:
        raise _lacks(base, error) from error
    except Exception as error:  # torchvision's readers raise whatever their parsing meets
        if "not found. This dataset needs" in str(error):
            raise _lacks(base, error) from error
        paths = [str(place / need) for need in entry.needs]
        raise BrokenFile(
            f"{', '.join(binary.damaged(place, entry.needs) or paths)} cannot be read as {base!r}",
            brief(error),
            f"Remove it, and put it there again: {_sources(entry, place)}.",
        ) from error


def _lacks(base: str, error: Exception) -> Offline:
    package = getattr(error, "name", None) or str(error).split()[0]
    return Offline(f"{base!r} cannot be read without {package}", brief(error), f"pip install {package}")


def _download(base: str, entry: Named, root: Path) -> None:
    """Let torchvision download what is missing, or unpack the archives where they have been put by hand.

    Raises:
        Offline: what was looked for, where, and how to put it there.
    """
    from torchvision import datasets

    here = [root / archive.folder / archive.file for archive in entry.archives]
    broken = [
        a for a, file in zip(entry.archives, here, strict=True) if file.exists() and not binary.has_md5(file, a.md5)
    ]
    why = f"looked for {', '.join(entry.needs)}, or {base}.npz, in {root} and {root / base}"
    todo = f"{_sources(entry, root)}. Or set --data-dir (POPGEN_DATA) to the folder that has it."
    if broken:
        raise BrokenFile(
            f"{root / broken[0].folder / broken[0].file} is truncated or altered",
            f"its md5 sum is not {broken[0].md5}",
            "Remove it, and download it again.",
        )
    complete = bool(here) and all(file.exists() for file in here)
    if not entry.downloads and not complete:
        raise Offline(f"data set {base!r} is not there", f"{why}; torchvision has no download of it", todo)
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE") and not complete:
        raise Offline(f"data set {base!r} is not there", f"{why}; HF_HUB_OFFLINE forbids a download", todo)
    kind = getattr(datasets, entry.kind)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(sys.stderr):  # torchvision prints; stdout is for results
            for kwargs in entry.splits.values():
                if not _is_there(root, entry):
                    kind(str(root), **kwargs, download=True)
    except ImportError as error:
        raise _lacks(base, error) from error
    except Exception as error:  # of the network, of its parsing, of its unpacking
        raise Offline(f"data set {base!r} could not be downloaded", f"{brief(error)}; {why}", todo) from error


def _sources(entry: Named, root: Path) -> str:
    if not entry.archives:
        return f"Put {', '.join(entry.needs)} into {root} by hand ({entry.page})"
    places: dict[tuple[str, str], list[str]] = {}  # files with one source and one folder are named together
    for archive in entry.archives:
        places.setdefault((archive.url.removesuffix(archive.file), archive.folder), []).append(archive.file)
    texts = [f"{', '.join(files)} from {url} into {root / folder}" for (url, folder), files in places.items()]
    return f"Download {'; '.join(texts)}; popgen unpacks it"


def _whole(
    name: str, entry: Named, sets: dict[str, Any], size: int | None
) -> tuple[dict[str, Part], tuple[str, ...]] | None:
    """The parts, where torchvision holds all pixels in one array (`data`); None where it holds files' names."""
    if not all(hasattr(one, "data") and len(getattr(one.data, "shape", ())) in (3, 4) for one in sets.values()):
        return None
    parts = {}
    for split, one in sets.items():
        array = one.data.numpy() if isinstance(one.data, torch.Tensor) else one.data
        check_bytes(name, sum(len(s) for s in sets.values()), (1 if array.ndim == 3 else 3, *_sides(array)))
        labels = torch.as_tensor(one.labels if hasattr(one, "labels") else one.targets).long()
        labels = labels if labels.dim() == 1 else labels[:, 0]  # QMNIST has columns of sources beside the class
        images = images_of(array.swapaxes(1, 2) if entry.transposed else array, Path(name))
        parts[split] = Part(images, labels)
    remarks: tuple[str, ...] = ()
    h, w = next(iter(parts.values())).inputs.shape[-2:]
    if size is not None and (h, w) != (size, size):
        parts = {s: Part(centre_square(part.inputs, size), part.targets) for s, part in parts.items()}
        remarks = (f"images of {h}x{w}: shorter side resized to {size}, centre {size}x{size} kept",)
    return parts, remarks


def _sides(array: Any) -> tuple[int, int]:
    h, w = array.shape[1:3] if array.ndim == 3 or array.shape[-1] == 3 else array.shape[2:]
    return int(h), int(w)


def _single(name: str, place: Path, sets: dict[str, Any], size: int | None) -> tuple[dict[str, Part], tuple[str, ...]]:
    """The parts, image by image."""

    def reader(one: Any) -> Pictures:
        def read(i: int) -> tuple[Any, int]:
            try:
                image, label = one[i]
                return pixels_of(image), int(label)
            except PopgenError:
                raise
            except Exception as error:  # of PIL, of h5py, of a missing file
                raise BrokenFile(
                    f"{_file_of(one, i) or place} is not a readable image", brief(error), "Remove or replace it."
                ) from error

        return Pictures(len(one), read)

    return gather(name, {split: reader(one) for split, one in sets.items()}, size)


def _file_of(one: Any, i: int) -> str:
    """The path of an image, under the name that torchvision's classes have for their lists of them."""
    for attribute in ("_image_files", "_images", "_samples", "samples"):
        if hasattr(one, attribute):
            entry = getattr(one, attribute)[i]
            return str(entry[0] if isinstance(entry, tuple) else entry)
    return ""


def _classes(entry: Named, one: Any, parts: dict[str, Part]) -> tuple[str, ...]:
    fallback = binary.STL10_CLASSES if entry.kind == "STL10" else None
    found = entry.classes or getattr(one, "classes", None) or getattr(one, "categories", fallback)
    if found is None:
        found = range(1 + max(int(part.targets.max()) for part in parts.values()))
    return tuple(c[0] if isinstance(c, tuple) else str(c) for c in found)
