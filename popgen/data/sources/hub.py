"""Data sets of the datasets library: `hf:OWNER/NAME`, `hf:OWNER/NAME@CONFIG`, or `hf:FOLDER` written by save_to_disk or of parquet files.

The image column is the one of type Image, the label column the one of type ClassLabel; `#COLUMN` behind the name chooses among
several. Splits are the set's own: train, test, and validation (val, valid, dev); what is missing is cut from train. No code of a
repository runs: datasets from 4.0 on reads data files only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from popgen.data.dataset import DataSet, from_parts
from popgen.data.sources.gather import Pictures, gather, pixels_of
from popgen.errors import BadInput, BrokenFile, NotFound, Offline, brief

_SPLITS = {"train": "train", "test": "test"} | dict.fromkeys(("validation", "val", "valid", "dev"), "val")
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def parse_hub(text: str) -> tuple[str, str | None, str | None]:
    """Repository or folder, configuration and label column of what stands behind `hf:`.

    >>> parse_hub("uoft-cs/cifar100@default#fine_label"), parse_hub("ylecun/mnist")
    (('uoft-cs/cifar100', 'default', 'fine_label'), ('ylecun/mnist', None, None))
    """
    if Path(text).exists():  # whatever stands in its own name
        return text, None, None
    place, _, column = text.partition("#")
    name, _, config = (place, "", "") if Path(place).exists() else place.partition("@")
    return name, config or None, column or None


def check_hub(name: str) -> None:
    """Refuse what cannot be a data set, before anything is read.

    Raises:
        NotFound: neither a folder nor the form of a repository's name.
        Offline: the datasets library is not installed.
    """
    place, _, _ = parse_hub(name.removeprefix("hf:"))
    if not place or not (Path(place).is_dir() or _NAME.fullmatch(place)):
        raise NotFound(
            f"{place!r} of data set {name!r} is neither a folder nor OWNER/NAME of the hub",
            "",
            "For example hf:ylecun/mnist, or hf:FOLDER from the current folder.",
        )
    if find_spec("datasets") is None:
        raise Offline(
            f"data set {name!r} cannot be read", "the datasets library is not installed", "pip install 'popgen[hf]'"
        )


def hub(name: str, text: str, size: int | None) -> DataSet:
    """The data set behind `hf:`, called `name`.

    Raises:
        Offline: not in the library's cache, and the hub does not answer.
        NotFound: no such data set or column.
        BadInput: no training split, no or several columns of a type, images without a label or of different sizes.
        BrokenFile: a folder or an image that cannot be read.
    """
    place, config, column = parse_hub(text)
    found = _load(name, place, config)
    tables = dict(found) if hasattr(found, "keys") else {"all": found}
    splits = {_SPLITS.get(split, split): table for split, table in tables.items()}
    used = {split: table for split, table in splits.items() if split in ("train", "val", "test", "all")}
    if "train" not in used and "all" not in used:
        raise BadInput(f"{name!r} has no split called train", f"it has {', '.join(tables)}", "Choose another data set.")
    image, label, classes = _columns(name, next(iter(used.values())).features, column)
    parts, remarks = gather(name, {split: _pictures(name, table, image, label) for split, table in used.items()}, size)
    for split, part in parts.items():
        if int(part.targets.min()) < 0:
            raise BadInput(f"{name!r} has images without a label in {split}", f"{label!r} is negative there", "")
    left = [split for split in splits if split not in used]
    remarks += (f"splits that are not used: {', '.join(left)}",) if left else ()
    top = 1 + max(int(part.targets.max()) for part in parts.values())
    return from_parts(name, classes or tuple(map(str, range(top))), parts, remarks)


def _load(name: str, place: str, config: str | None) -> Any:
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    folder = Path(place)
    try:
        with _quiet(datasets):
            if any((folder / file).exists() for file in ("dataset_dict.json", "state.json")):
                return datasets.load_from_disk(place)
            return datasets.load_dataset(place, config)
    except Exception as error:  # the library's readers and the hub's client raise what they meet
        if folder.is_dir():
            raise BrokenFile(
                f"{place} cannot be read by the datasets library",
                brief(error),
                "It should be written by save_to_disk, or hold parquet files such as train-00000.parquet.",
            ) from error
        if isinstance(error, ConnectionError | OSError) and not isinstance(error, DatasetNotFoundError):
            raise _offline(name, place, error) from error
        if isinstance(error, DatasetNotFoundError):
            raise NotFound(f"the hub has no data set {place!r}", brief(error), "Check OWNER/NAME.") from error
        todo = f"Name a configuration: hf:{place}@CONFIG."
        raise BadInput(f"{name!r} cannot be read", brief(error, 400), todo) from error


def _offline(name: str, place: str, error: Exception) -> Offline:
    return Offline(
        f"data set {name!r} could not be fetched",
        f"{place} is not in the cache of the datasets library here, and the hub does not answer: {brief(error)}",
        f"Where there is a network: python -c \"import datasets; datasets.load_dataset('{place}').save_to_disk('FOLDER')\", "
        "copy the folder, and name hf:FOLDER.",
    )


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Without the library's bars, which would mix with popgen's."""
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _columns(name: str, features: Any, column: str | None) -> tuple[str, str, tuple[str, ...] | None]:
    """Names of the image and label columns, and of the classes where the label's type has them."""
    import datasets

    images = [key for key, kind in features.items() if isinstance(kind, datasets.Image)]
    labels = [key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    has = f"it has {', '.join(f'{key} ({type(kind).__name__})' for key, kind in features.items())}"
    if len(images) != 1:
        raise BadInput(f"{name!r} has {len(images)} columns of type Image", has, "One is needed.")
    if column is None and len(labels) != 1:
        todo = f"Name the label's column: {name.partition('/size:')[0]}#{(labels or ['COLUMN'])[0]}."
        raise BadInput(f"{name!r} has {len(labels)} columns of type ClassLabel", has, todo)
    label = column or labels[0]
    if label not in features:
        raise NotFound(f"{name!r} has no column {label!r}", has, "Name one of them.")
    if label in labels:
        return images[0], label, tuple(features[label].names)
    if not str(getattr(features[label], "dtype", "")).startswith(("int", "uint")):
        raise BadInput(f"column {label!r} of {name!r} does not hold whole numbers", has, "A class is one, from 0.")
    return images[0], label, None


def _pictures(name: str, table: Any, image: str, label: str) -> Pictures:
    def read(i: int) -> tuple[Any, int]:
        try:
            row = table[i]
            return pixels_of(row[image]), int(row[label])
        except (OSError, ValueError, TypeError, SyntaxError) as error:
            raise BrokenFile(
                f"image {i} of {name!r} cannot be read", brief(error), "Fetch or write the data set again."
            ) from error

    return Pictures(len(table), read)
