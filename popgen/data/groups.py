"""Reads the group of every validation image, such as its hospital or camera, for the error of the worst group.

The groups are in a CSV file or in an array. A CSV file has the columns `file,group` or `index,group`. Files are named
relative to the folder of `folder:FOLDER`, and files of other splits may be listed, too; indices count the images of the
validation split from 0. An array is in the file of `npz:FILE`: groups_val, or groups_train or groups if the validation
split is cut from these images.
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
from popgen.data.load import split_name, split_reading
from popgen.data.sources.listing import list_folder
from popgen.errors import BadInput, NotFound
from popgen.json_text import json_text
from popgen.tables import read_csv
from popgen.types import Labels


@dataclass(frozen=True)
class Groups:
    """The groups of the n validation images."""

    names: tuple[str, ...]  # sorted
    index: Labels  # the index in `names` of each image's group, shape (n,)

    @property
    def counts(self) -> dict[str, int]:
        """The number of images in each group."""
        return dict(zip(self.names, torch.bincount(self.index, minlength=len(self.names)).tolist(), strict=True))

    @property
    def sha256(self) -> str:
        """The hash of each image's group by name."""
        named = json_text([self.names[i] for i in self.index.tolist()])
        return hashlib.sha256(named.encode()).hexdigest()


def load_groups(data: DataSet, file: str | None) -> Groups:
    """Load the groups of a data set's validation images.

    Args:
        file: the path of a CSV file. If None, the groups are read from the data set's own .npz file.

    Raises:
        NotFound: the CSV file does not exist.
        BrokenFile: the file cannot be read as CSV.
        BadInput: there are no groups, an image has no group, or a file or an index is not one of the data set.
    """
    if file is None:
        return _make_groups(_from_npz(data))
    path = local_path(file)
    if not path.is_file():
        raise NotFound(f"there is no file {file!r} with groups", "", "Give a CSV file with the columns file,group.")
    key, group_of = _read_csv(path)
    if key == "file":
        return _make_groups(_by_file(data, path, group_of))
    return _make_groups(_by_index(data, path, group_of))


def _make_groups(groups: list[str]) -> Groups:
    names = tuple(sorted(set(groups)))
    index_of = {name: i for i, name in enumerate(names)}
    return Groups(names, torch.tensor([index_of[group] for group in groups]))


def _read_csv(path: Path) -> tuple[str, dict[str, str]]:
    """Read the name of the column that identifies images, `file` or `index`, and the group by its values.

    Raises:
        BrokenFile, BadInput: as `popgen.tables.read_csv`; a column or an entry is missing, or an image has two groups.
    """
    group_of: dict[str, str] = {}
    columns, rows = read_csv(path)
    key = next((name for name in ("file", "index") if name in columns), None)
    if key is None or "group" not in columns:
        raise BadInput(
            f"{path} has the columns {', '.join(columns) or '(none)'}",
            "the first line names them: file,group or index,group",
            "Add that line.",
        )
    for number, row in enumerate(rows, start=1):
        name, group = row[key], row["group"]
        if not name or not group:
            raise BadInput(f"entry {number} of {path} has no {'group' if name else key}", f"{row}", "Complete it.")
        if group_of.setdefault(name, group) != group:
            raise BadInput(
                f"{path} has two groups for {name!r}: {group_of[name]!r} and {group!r}", "", "Keep one of them."
            )
    return key, group_of


def _by_index(data: DataSet, path: Path, group_of: dict[str, str]) -> list[str]:
    """The group of each validation image, from a file that gives groups by index."""
    wanted = [str(index) for index in range(len(data.val))]
    _refuse_missing(data, path, "index", wanted, group_of)
    _refuse_unknown(data, path, "index", set(wanted), group_of)
    return [group_of[name] for name in wanted]


def _by_file(data: DataSet, path: Path, group_of: dict[str, str]) -> list[str]:
    """The group of each validation image, from a file that gives groups by file name."""
    prefix, _, folder = split_reading(_source(data))[0].partition(":")
    if prefix != "folder":
        raise BadInput(
            f"{path} names files, and {data.name!r} is not a folder of them",
            "only images of folder:FOLDER have names",
            f"Give index,group with the indices of the validation images, 0 to {len(data.val) - 1}.",
        )
    root = local_path(folder)
    listed = {
        split: [(file.relative_to(root).as_posix(), label) for file, label in files]
        for split, files in list_folder(root).files.items()
    }
    read = {split: [one for one in files if one[0] not in data.unread] for split, files in listed.items()}
    names = {split: [file for file, _ in files] for split, files in read.items()}
    labels = {split: torch.tensor([label for _, label in files]) for split, files in read.items()}
    split, indices = _validation_indices(data, labels)
    known = {file for files in listed.values() for file, _ in files}
    wanted = [names[split][index] for index in indices.tolist()]
    has_backslash = any("\\" in file for file in known)
    given = {
        Path(file if has_backslash else file.replace("\\", "/")).as_posix(): group for file, group in group_of.items()
    }
    _refuse_unknown(data, path, "file", known, given)
    _refuse_missing(data, path, "file", wanted, given)
    return [given[name] for name in wanted]


def _from_npz(data: DataSet) -> list[str]:
    """The group of each validation image, from the .npz file that holds the images."""
    prefix, _, file = split_reading(_source(data))[0].partition(":")
    if prefix != "npz":
        raise BadInput(
            f"the groups of {data.name!r} are not known",
            "they stand in a file, or beside the images of npz:FILE as groups_val",
            "Give --groups FILE, a CSV with the columns file,group or index,group.",
        )
    with np.load(local_path(file), allow_pickle=False) as archive:
        arrays = {split: f"_{split}" for split in SPLITS} if "x_train" in archive else {"all": ""}
        labels = {
            split: torch.from_numpy(archive[f"y{suffix}"].astype(np.int64)).flatten()
            for split, suffix in arrays.items()
            if f"y{suffix}" in archive
        }
        split, indices = _validation_indices(data, labels)
        name = f"groups{arrays[split]}"
        if name not in archive:
            raise BadInput(
                f"{file} has no array {name}",
                f"it holds {', '.join(sorted(archive.files))}",
                f"Add the group of each image of x{name.removeprefix('groups')}, or give --groups FILE.",
            )
        groups = archive[name]
    if groups.shape != (len(labels[split]),):
        raise BadInput(
            f"{name} of {file} has shape {groups.shape}",
            f"there are {len(labels[split])} images",
            "Give one for each.",
        )
    return [str(group) for group in groups[indices.numpy()]]


def _source(data: DataSet) -> str:
    """The source of a data set without its variants; they do not change which images the validation split has.

    Raises:
        BadInput: the name has a subset `classes:`, whose validation split has fewer images than its source.
    """
    source, modifiers = split_name(data.name)
    if any(text.startswith("classes:") for text in modifiers):
        raise BadInput(
            f"groups are those of a whole data set, not of {data.name!r}",
            "its validation split has other images",
            "Give index,group with the indices in this one, or leave classes: out.",
        )
    return source


def _validation_indices(data: DataSet, labels: dict[str, Tensor]) -> tuple[str, Tensor]:
    """Find the source's split that the validation images come from, and their indices in it.

    `from_parts` splits inputs that are the images' own indices exactly as it has split the images.

    Args:
        labels: the class indices of the images in each of the source's splits.

    Raises:
        BadInput: the split labels are not those of the data set, so that its images are in another order.
    """
    parts = {split: Part(torch.arange(len(targets)).view(-1, 1, 1, 1), targets) for split, targets in labels.items()}
    val = from_parts("", (), parts).val
    split = next(split for split in ("val", "train", "all") if split in labels)
    if not torch.equal(val.targets, data.val.targets):
        raise BadInput(
            f"the validation images of {data.name!r} are not in the order of its files",
            "so their groups cannot be told by name",
            f"Give index,group with the indices of the validation images, 0 to {len(data.val) - 1}.",
        )
    return split, val.inputs.flatten()


def _refuse_missing(data: DataSet, path: Path, key: str, wanted: list[str], group_of: dict[str, str]) -> None:
    """Raise BadInput if a validation image has no group."""
    missing = [name for name in wanted if name not in group_of]
    if missing:
        raise BadInput(
            f"{path} has no group for {len(missing)} of {len(wanted)} validation images of {data.name!r}",
            f"the first of them: {key} {', '.join(missing[:3])}",
            "Every validation image needs one.",
        )


def _refuse_unknown(data: DataSet, path: Path, key: str, known: set[str], group_of: dict[str, str]) -> None:
    """Raise BadInput if the file names an image that the data set does not have."""
    unknown = [name for name in group_of if name not in known]
    if unknown:
        raise BadInput(
            f"{path} names {len(unknown)} images that {data.name!r} has not",
            f"the first of them: {key} {', '.join(unknown[:3])}",
            "Paths are relative to the data set's folder." if key == "file" else "Indices count from 0.",
        )
