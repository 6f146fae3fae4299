"""The group of every validation image, for the error of the worst one: hospitals, cameras, backgrounds.

From a CSV file with the columns `file,group` (paths relative to the folder of `folder:FOLDER`; files of other splits may
be there, too) or `index,group` (rows of the validation split, from 0), or from an array beside the images of `npz:FILE`:
groups_val, or groups_train or groups where the validation split is cut from these.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from popgen.data.dataset import SPLITS, DataSet, Part, from_parts
from popgen.data.load import split_name
from popgen.data.sources.files import list_folder
from popgen.errors import BadInput, BrokenFile, NotFound, brief
from popgen.types import Labels


@dataclass(frozen=True)
class Groups:
    """The names of all groups, sorted, and the group of each validation image, shape (n,)."""

    names: tuple[str, ...]
    index: Labels  # the group of each image, as an index of `names`

    @property
    def counts(self) -> dict[str, int]:
        """How many images each has."""
        return dict(zip(self.names, torch.bincount(self.index, minlength=len(self.names)).tolist(), strict=True))


def load_groups(data: DataSet, file: str | None) -> Groups:
    """The groups of a data set's validation images.

    Args:
        file: a CSV file; None: the array in the data set's own file.

    Raises:
        NotFound: no such file.
        BrokenFile: not CSV.
        BadInput: no groups, an image without one, a file or index that the data set has not.
    """
    if file is None:
        return _named(_from_npz(data))
    path = Path(file)
    if not path.is_file():
        raise NotFound(f"there is no file {file!r} with groups", "", "Give a CSV file with the columns file,group.")
    key, group_of = _read(path)
    if key == "file":
        return _named(_by_file(data, path, group_of))
    return _named(_by_index(data, path, group_of))


def _named(groups: list[str]) -> Groups:
    names = tuple(sorted(set(groups)))
    number = {name: i for i, name in enumerate(names)}
    return Groups(names, torch.tensor([number[group] for group in groups]))


def _read(path: Path) -> tuple[str, dict[str, str]]:
    """Whether images are named by `file` or by `index`, and the group of each name."""
    group_of: dict[str, str] = {}
    try:
        table = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
        columns, rows = table.fieldnames or [], list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BrokenFile(f"{path} cannot be read as CSV", brief(error), "Write it as text in UTF-8.") from error
    key = next((name for name in ("file", "index") if name in columns), None)
    if key is None or "group" not in columns:
        raise BadInput(
            f"{path} has the columns {', '.join(columns) or '(none)'}",
            "the first line names them: file,group or index,group",
            "Add that line.",
        )
    for number, row in enumerate(rows, start=1):
        name, group = (row[key] or "").strip(), (row["group"] or "").strip()
        if not name or not group:
            raise BadInput(f"entry {number} of {path} has no {'group' if name else key}", f"{row}", "Complete it.")
        if group_of.setdefault(name, group) != group:
            raise BadInput(
                f"{path} has two groups for {name!r}: {group_of[name]!r} and {group!r}", "", "Keep one of them."
            )
    return key, group_of


def _by_index(data: DataSet, path: Path, group_of: dict[str, str]) -> list[str]:
    wanted = [str(row) for row in range(len(data.val))]
    _check_all(data, path, "index", wanted, group_of)
    _check_known(data, path, "index", set(wanted), group_of)
    return [group_of[name] for name in wanted]


def _by_file(data: DataSet, path: Path, group_of: dict[str, str]) -> list[str]:
    prefix, _, where = _source(data).partition(":")
    if prefix != "folder":
        raise BadInput(
            f"{path} names files, and {data.name!r} is not a folder of them",
            "only images of folder:FOLDER have names",
            f"Give index,group with the rows of the validation split, 0 to {len(data.val) - 1}.",
        )
    root = Path(where)
    listed = list_folder(root)[1]
    names = {split: [file.relative_to(root).as_posix() for file, _ in found] for split, found in listed.items()}
    labels = {split: torch.tensor([label for _, label in found]) for split, found in listed.items()}
    split, rows = _validation_rows(data, labels)
    files = {name for some in names.values() for name in some}
    wanted = [names[split][row] for row in rows.tolist()]
    given = {Path(name).as_posix(): group for name, group in group_of.items()}
    _check_known(data, path, "file", files, given)
    _check_all(data, path, "file", wanted, given)
    return [given[name] for name in wanted]


def _from_npz(data: DataSet) -> list[str]:
    prefix, _, where = _source(data).partition(":")
    if prefix != "npz":
        raise BadInput(
            f"the groups of {data.name!r} are not known",
            "they stand in a file, or beside the images of npz:FILE as groups_val",
            "Give --groups FILE, a CSV with the columns file,group or index,group.",
        )
    with np.load(where, allow_pickle=False) as archive:
        arrays = {split: f"_{split}" for split in SPLITS} if "x_train" in archive else {"all": ""}
        parts = {
            split: torch.from_numpy(archive[f"y{suffix}"].astype(np.int64)).flatten()
            for split, suffix in arrays.items()
            if f"y{suffix}" in archive
        }
        split, rows = _validation_rows(data, parts)
        name = f"groups{arrays[split]}"
        if name not in archive:
            raise BadInput(
                f"{where} has no array {name}",
                f"it holds {', '.join(sorted(archive.files))}",
                f"Add the group of each image of x{name.removeprefix('groups')}, or give --groups FILE.",
            )
        groups = archive[name]
    if groups.shape != (len(parts[split]),):
        raise BadInput(
            f"{name} of {where} has shape {groups.shape}", f"there are {len(parts[split])} images", "Give one for each."
        )
    return [str(group) for group in groups[rows.numpy()]]


def _source(data: DataSet) -> str:
    """The name without what stands behind it.

    Raises:
        BadInput: a subset, whose rows are others.
    """
    source, modifiers = split_name(data.name)
    if any(text.startswith("classes:") for text in modifiers):
        raise BadInput(
            f"groups are those of a whole data set, not of {data.name!r}",
            "its validation split has other rows",
            "Give index,group with the rows of this one, or leave classes: out.",
        )
    return source


def _validation_rows(data: DataSet, labels: dict[str, Tensor]) -> tuple[str, Tensor]:
    """Of which of a source's splits the validation images are, and which rows.

    They are cut as images are, by `from_parts`, from rows that carry their own numbers.
    """
    parts = {split: Part(torch.arange(len(of)).view(-1, 1, 1, 1), of) for split, of in labels.items()}
    cut = from_parts("", (), parts).val
    split = next(split for split in ("val", "train", "all") if split in labels)
    if not torch.equal(cut.targets, data.val.targets):
        raise BadInput(
            f"the validation images of {data.name!r} are not in the order of its files",
            "so their groups cannot be told by name",
            f"Give index,group with the rows of the validation split, 0 to {len(data.val) - 1}.",
        )
    return split, cut.inputs.flatten()


def _check_all(data: DataSet, path: Path, key: str, wanted: list[str], group_of: dict[str, str]) -> None:
    missing = [name for name in wanted if name not in group_of]
    if missing:
        raise BadInput(
            f"{path} has no group for {len(missing)} of {len(wanted)} validation images of {data.name!r}",
            f"the first of them: {key} {', '.join(missing[:3])}",
            "Every validation image needs one.",
        )


def _check_known(data: DataSet, path: Path, key: str, known: set[str], group_of: dict[str, str]) -> None:
    unknown = [name for name in group_of if name not in known]
    if unknown:
        raise BadInput(
            f"{path} names {len(unknown)} images that {data.name!r} has not",
            f"the first of them: {key} {', '.join(unknown[:3])}",
            "Paths are relative to the data set's folder." if key == "file" else "Rows count from 0.",
        )
