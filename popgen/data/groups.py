"""Reads the group of every validation image, such as its hospital or camera, and of the test images where it is known.

A data set with a style (`digits/style:rotate:45:0.2`) has groups of its own. Others have them in a CSV file or in an array. A CSV file has
the columns `file,group` or `index,group`. Files are named relative to the folder of `folder:FOLDER`; indices count the images of
the validation split from 0, or, with a column `split`, those of the split named there. An array is in the file of `npz:FILE`: groups_val and
groups_test, or groups_train or groups where a split is cut from these images.

Validation images need groups, because a search goes by them. Test images may have them, all or none: what was chosen is scored on them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from popgen.data.dataset import SPLITS, DataSet, Part, from_parts
from popgen.data.folder import local_path
from popgen.data.load import split_name
from popgen.data.reading import split_reading
from popgen.data.sources.listing import IMAGES, TEXTS, list_folder
from popgen.errors import BadInput, NotFound
from popgen.json_text import json_text
from popgen.tables import read_csv
from popgen.types import Labels

EXAMPLE = "digits/style:rotate:45:0.2"  # a built-in data set with groups
_KINDS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Groups:
    """The groups of the n validation images, and those of the test images where they are known."""

    names: tuple[str, ...]  # sorted; of validation and test images together
    index: Labels  # the index in `names` of each validation image's group, shape (n,)
    test: Labels | None = None  # the same of the test images

    @property
    def counts(self) -> dict[str, int]:
        """The number of validation images in each group."""
        return dict(zip(self.names, torch.bincount(self.index, minlength=len(self.names)).tolist(), strict=True))

    @property
    def sha256(self) -> str:
        """The hash of each validation image's group by name."""
        named = json_text([self.names[i] for i in self.index.tolist()])
        return hashlib.sha256(named.encode()).hexdigest()


def load_groups(data: DataSet, file: str | None) -> Groups:
    """Load the groups of a data set's validation images, and of its test images where they are known.

    Args:
        file: the path of a CSV file. If None, the groups are those of the data set's style, or are read from its own .npz file.

    Raises:
        NotFound: the CSV file does not exist.
        BrokenFile: the file cannot be read as CSV.
        BadInput: there are no groups, a validation image has no group, or a file, a split or an index is not one of the data set.
    """
    if file is None:
        if data.groups:
            return _make_groups(*(_named(data, split) for split in ("val", "test")))
        archive = _Archive.of(data)
        return _make_groups(archive.groups("val") or [], archive.groups("test"))
    path = local_path(file)
    if not path.is_file():
        raise NotFound(f"there is no file {file!r} with groups", "", "Give a CSV file with the columns file,group.")
    key, entries = _read_csv(path)
    return _make_groups(*(_by_file if key == "file" else _by_index)(data, entries))


def _named(data: DataSet, split: str) -> list[str]:
    """The groups of a data set's own, by name."""
    part: Part = getattr(data, split)
    assert part.groups is not None, f"{data.name} has groups, and its {split} split has none"
    return [data.groups[i] for i in part.groups.tolist()]


def _make_groups(val: list[str], test: list[str] | None) -> Groups:
    names = tuple(sorted({*val, *(test or ())}))
    index_of = {name: i for i, name in enumerate(names)}
    index, tested = (torch.tensor([index_of[group] for group in groups]) for groups in (val, test or []))
    return Groups(names, index, tested if test else None)


@dataclass(frozen=True)
class _Entries:
    """The group of each image that a CSV file names, by its file or by its split and index."""

    path: Path
    by_split: dict[str, dict[str, str]]  # files are all under the split "val"
    has_splits: bool = False


def _read_csv(path: Path) -> tuple[str, _Entries]:
    """Read the name of the column that identifies images, `file` or `index`, and the groups.

    Raises:
        BrokenFile, BadInput: as `popgen.tables.read_csv`; a column or an entry is missing, a split is unknown, or an image has two groups.
    """
    columns, rows = read_csv(path)
    key = next((name for name in ("file", "index") if name in columns), None)
    if key is None or "group" not in columns:
        raise BadInput(
            f"{path} has the columns {', '.join(columns) or '(none)'}",
            "the first line names them: file,group or index,group",
            "Add that line.",
        )
    entries = _Entries(path, {"val": {}}, key == "index" and "split" in columns)
    for number, row in enumerate(rows, start=1):
        name, group = row[key], row["group"]
        if not name or not group:
            raise BadInput(f"entry {number} of {path} has no {'group' if name else key}", f"{row}", "Complete it.")
        split = row["split"] if entries.has_splits else "val"
        if split not in SPLITS:
            raise BadInput(
                f"entry {number} of {path} is of the split {split!r}", f"{row}", f"Write {', '.join(SPLITS)}."
            )
        group_of = entries.by_split.setdefault(split, {})
        if group_of.setdefault(name, group) != group:
            raise BadInput(
                f"{path} has two groups for {name!r}: {group_of[name]!r} and {group!r}", "", "Keep one of them."
            )
    return key, entries


def _by_index(data: DataSet, entries: _Entries) -> tuple[list[str], list[str] | None]:
    """The group of each validation and test image, from a file that gives groups by index."""
    found: dict[str, list[str]] = {}
    for split, group_of in entries.by_split.items():
        wanted = [str(index) for index in range(len(getattr(data, split)))]
        if split != "train":
            _refuse_missing(data, entries.path, "index", wanted, group_of, split)
            found[split] = [group_of[name] for name in wanted]
        _refuse_unknown(data, entries.path, "index", set(wanted), group_of)
    return found["val"], found.get("test")


def _by_file(data: DataSet, entries: _Entries) -> tuple[list[str], list[str] | None]:
    """The group of each validation and test image, from a file that gives groups by file name."""
    path = entries.path
    prefix, _, folder = split_reading(_source(data))[0].partition(":")
    if prefix != "folder":
        raise BadInput(
            f"{path} names files, and {data.name!r} is not a folder of them",
            "only what lies in folder:FOLDER has names",
            f"Give index,group with the indices of the validation {data.noun}, 0 to {len(data.val) - 1}.",
        )
    root = local_path(folder)
    listing = list_folder(root, TEXTS if data.has_texts else IMAGES)
    label_of = [data.classes.index(name) for name in listing.classes]  # tasks.json may give classes another order
    listed = {
        split: [(file.relative_to(root).as_posix(), label_of[label]) for file, label in files]
        for split, files in listing.files.items()
    }
    read = {split: [one for one in files if one[0] not in data.unread] for split, files in listed.items()}
    labels = {split: torch.tensor([label for _, label in files]) for split, files in read.items()}
    known = {file for files in listed.values() for file, _ in files}
    has_backslash = any("\\" in file for file in known)
    given = {
        Path(file if has_backslash else file.replace("\\", "/")).as_posix(): group
        for file, group in entries.by_split["val"].items()
    }
    _refuse_unknown(data, path, "file", known, given)
    wanted: dict[str, list[str]] = {}
    for split in ("val", "test"):
        source, indices = _indices(data, labels, split)
        wanted[split] = [read[source][index][0] for index in indices.tolist()]
    _refuse_missing(data, path, "file", wanted["val"], given, "val")
    if any(file in given for file in wanted["test"]):
        _refuse_missing(data, path, "file", wanted["test"], given, "test")
        return [given[file] for file in wanted["val"]], [given[file] for file in wanted["test"]]
    return [given[file] for file in wanted["val"]], None


@dataclass(frozen=True)
class _Archive:
    """The .npz file that holds a data set's images."""

    data: DataSet
    file: str

    @classmethod
    def of(cls, data: DataSet) -> _Archive:
        """The file that the data set is read from.

        Raises:
            BadInput: it is read from something else.
        """
        prefix, _, file = split_reading(_source(data))[0].partition(":")
        if prefix != "npz":
            raise BadInput(
                f"the groups of {data.name!r} are not known",
                "they stand in a file, or beside the images of npz:FILE as groups_val",
                f"Give --groups FILE, a CSV with the columns file,group or index,group; or try --data {EXAMPLE}.",
            )
        return cls(data, file)

    def groups(self, wanted: str) -> list[str] | None:
        """The group of each image of a split; None where the test images have none.

        Raises:
            BadInput: the validation images have none, or there are not as many groups as images.
        """
        with np.load(local_path(self.file), allow_pickle=False) as archive:
            arrays = {split: f"_{split}" for split in SPLITS} if "x_train" in archive else {"all": ""}
            labels = {
                split: torch.from_numpy(archive[f"y{suffix}"].astype(np.int64)).flatten()
                for split, suffix in arrays.items()
                if f"y{suffix}" in archive
            }
            source, indices = _indices(self.data, labels, wanted)
            name = f"groups{arrays[source]}"
            if name not in archive:
                if wanted == "test":
                    return None
                raise BadInput(
                    f"{self.file} has no array {name}",
                    f"it holds {', '.join(sorted(archive.files))}",
                    f"Add the group of each image of x{name.removeprefix('groups')}, or give --groups FILE.",
                )
            groups = archive[name]
        if groups.shape != (len(labels[source]),):
            raise BadInput(
                f"{name} of {self.file} has shape {groups.shape}",
                f"there are {len(labels[source])} images",
                "Give one for each.",
            )
        return [str(group) for group in groups[indices.numpy()]]


def _source(data: DataSet) -> str:
    """The source of a data set without its variants; they do not change which images a split has.

    Raises:
        BadInput: the name has a subset `classes:` or `labels:`, whose splits are others than its source's.
    """
    source, modifiers = split_name(data.name)
    subset = next((text.partition(":")[0] for text in modifiers if text.startswith(("classes:", "labels:"))), None)
    if subset is not None:
        raise BadInput(
            f"groups are those of a whole data set, not of {data.name!r}",
            f"its validation split has other {data.noun}",
            f"Give index,group with the indices in this one, or leave {subset}: out.",
        )
    return source


def _indices(data: DataSet, labels: dict[str, Tensor], wanted: str) -> tuple[str, Tensor]:
    """Find the source's split that the images of a split come from, and their indices in it.

    `from_parts` splits inputs that are the images' own indices exactly as it has split the images.

    Args:
        labels: the class indices of the images in each of the source's splits.
        wanted: `val` or `test`.

    Raises:
        BadInput: the split labels are not those of the data set, so that its images are in another order.
    """
    parts = {split: Part(torch.arange(len(targets)).view(-1, 1, 1, 1), targets) for split, targets in labels.items()}
    found: Part = getattr(from_parts("", (), parts), wanted)
    source = next(split for split in (wanted, "train", "all") if split in labels)
    own: Part = getattr(data, wanted)
    if not torch.equal(found.targets, own.targets):
        raise BadInput(
            f"the {_KINDS[wanted]} {data.noun} of {data.name!r} are not in the order of its files",
            "so their groups cannot be told by name",
            f"Give index,group with the indices of the validation {data.noun}, 0 to {len(data.val) - 1}.",
        )
    return source, found.inputs.flatten()


def _refuse_missing(
    data: DataSet, path: Path, key: str, wanted: list[str], group_of: dict[str, str], split: str
) -> None:
    """Raise BadInput if an image of a split has no group."""
    missing, one = [name for name in wanted if name not in group_of], data.noun.removesuffix("s")
    if missing:
        raise BadInput(
            f"{path} has no group for {len(missing)} of {len(wanted)} {_KINDS[split]} {data.noun} of {data.name!r}",
            f"the first of them: {key} {', '.join(missing[:3])}",
            f"Every validation {one} needs one." if split == "val" else f"Give one to every test {one}, or to none.",
        )


def _refuse_unknown(data: DataSet, path: Path, key: str, known: set[str], group_of: dict[str, str]) -> None:
    """Raise BadInput if the file names an image that the data set does not have."""
    unknown = [name for name in group_of if name not in known]
    if unknown:
        raise BadInput(
            f"{path} names {len(unknown)} {data.noun} that {data.name!r} has not",
            f"the first of them: {key} {', '.join(unknown[:3])}",
            "Paths are relative to the data set's folder." if key == "file" else "Indices count from 0.",
        )
