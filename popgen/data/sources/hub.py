"""Reads data sets through the Hugging Face datasets library: `hf:OWNER/NAME`, `hf:OWNER/NAME@CONFIG` or `hf:FOLDER`.

A folder is one that save_to_disk wrote, or one of parquet files. The images are in the one column of type Image. The
labels are in the one column of type ClassLabel, or in the column that `#COLUMN` at the end of the name gives. Splits
are the data set's own: train, test, and validation (also called val, valid or dev); missing ones are cut from train. No
code of a repository runs, because datasets reads only data files from version 4.0 on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from popgen.data.dataset import DataSet, from_parts
from popgen.data.sources.gather import UnreadImages, gather, pixels_of
from popgen.errors import BadInput, BrokenFile, NotFound, Offline, brief

_SPLITS = {"train": "train", "test": "test"} | dict.fromkeys(("validation", "val", "valid", "dev"), "val")
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def parse_hub(text: str) -> tuple[str, str | None, str | None]:
    """Split the text that follows `hf:` into the repository or folder, the configuration and the label column.

    The configuration and the column are None if the text gives none.

    >>> parse_hub("uoft-cs/cifar100@default#fine_label"), parse_hub("ylecun/mnist")
    (('uoft-cs/cifar100', 'default', 'fine_label'), ('ylecun/mnist', None, None))
    """
    if Path(text).exists():  # The path of a folder may itself hold # and @.
        return text, None, None
    source, _, column = text.partition("#")
    name, _, config = (source, "", "") if Path(source).exists() else source.partition("@")
    return name, config or None, column or None


def check_hub(name: str) -> None:
    """Check the form of a name `hf:...`, without reading the data set.

    Raises:
        NotFound: it names neither a folder nor, by its form, a repository.
        Offline: the datasets library is not installed.
    """
    source, _, _ = parse_hub(name.removeprefix("hf:"))
    if not source or not (Path(source).is_dir() or _NAME.fullmatch(source)):
        raise NotFound(
            f"{source!r} of data set {name!r} is neither a folder nor OWNER/NAME of the hub",
            "",
            "For example hf:ylecun/mnist, or hf:FOLDER from the current folder.",
        )
    if find_spec("datasets") is None:
        raise Offline(
            f"data set {name!r} cannot be read", "the datasets library is not installed", "pip install 'popgen[hf]'"
        )


def load_hub(name: str, text: str, size: int | None) -> DataSet:
    """Load a data set from the hub or from a folder.

    Args:
        name: the name of the result.
        text: the text that follows `hf:`, see `parse_hub`.
        size: the side in pixels that images are resized and cropped to. If None, all images must have the same size.

    Raises:
        Offline: it is not in the library's cache, and the hub does not answer.
        NotFound: there is no such data set or column.
        BadInput: it has no training split, not exactly one column of images or of labels, images without a label, or
            images of different sizes.
        BrokenFile: a folder or an image cannot be read.
    """
    source, config, column = parse_hub(text)
    loaded = _load(name, source, config)
    tables = dict(loaded) if hasattr(loaded, "keys") else {"all": loaded}
    splits = {_SPLITS.get(split, split): table for split, table in tables.items()}
    used = {split: table for split, table in splits.items() if split in ("train", "val", "test", "all")}
    if "train" not in used and "all" not in used:
        raise BadInput(f"{name!r} has no split called train", f"it has {', '.join(tables)}", "Choose another data set.")
    image, label, classes = _columns(name, next(iter(used.values())).features, column)
    parts, remarks = gather(name, {split: _unread(name, table, image, label) for split, table in used.items()}, size)
    for split, part in parts.items():
        if int(part.targets.min()) < 0:
            raise BadInput(f"{name!r} has images without a label in {split}", f"{label!r} is negative there", "")
    unused = [split for split in splits if split not in used]
    remarks += (f"splits that are not used: {', '.join(unused)}",) if unused else ()
    class_count = 1 + max(int(part.targets.max()) for part in parts.values())
    return from_parts(name, classes or tuple(map(str, range(class_count))), parts, remarks)


def _load(name: str, source: str, config: str | None) -> Any:
    """The table, or the dictionary of tables by split, that the datasets library loads."""
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    folder = Path(source)
    try:
        with _no_progress_bars(datasets):
            if any((folder / file).exists() for file in ("dataset_dict.json", "state.json")):
                return datasets.load_from_disk(source)
            return datasets.load_dataset(source, config)
    except Exception as error:  # The library's readers and the hub's client raise errors of many types.
        if folder.is_dir():
            raise BrokenFile(
                f"{source} cannot be read by the datasets library",
                brief(error),
                "It should be written by save_to_disk, or hold parquet files such as train-00000.parquet.",
            ) from error
        if isinstance(error, ConnectionError | OSError) and not isinstance(error, DatasetNotFoundError):
            raise _offline(name, source, error) from error
        if isinstance(error, DatasetNotFoundError):
            raise NotFound(f"the hub has no data set {source!r}", brief(error), "Check OWNER/NAME.") from error
        todo = f"Name a configuration: hf:{source}@CONFIG."
        raise BadInput(f"{name!r} cannot be read", brief(error, 400), todo) from error


def _offline(name: str, source: str, error: Exception) -> Offline:
    return Offline(
        f"data set {name!r} could not be fetched",
        f"{source} is not in the cache of the datasets library here, and the hub does not answer: {brief(error)}",
        f"Where there is a network: python -c \"import datasets; datasets.load_dataset('{source}').save_to_disk('FOLDER')\", "
        "copy the folder, and name hf:FOLDER.",
    )


@contextmanager
def _no_progress_bars(datasets: Any) -> Iterator[None]:
    """Switch off the library's progress bars, which would mix with popgen's."""
    were_enabled = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if were_enabled:
            datasets.enable_progress_bars()


def _columns(name: str, features: Any, column: str | None) -> tuple[str, str, tuple[str, ...] | None]:
    """The names of the image column and the label column, and the class names if the label's type has them."""
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


def _unread(name: str, table: Any, image: str, label: str) -> UnreadImages:
    """The images and labels of one table, which are read row by row."""

    def read(i: int) -> tuple[Any, int]:
        try:
            row = table[i]
            return pixels_of(row[image]), int(row[label])
        except (OSError, ValueError, TypeError, SyntaxError) as error:
            raise BrokenFile(
                f"image {i} of {name!r} cannot be read", brief(error), "Fetch or write the data set again."
            ) from error

    return UnreadImages(len(table), read)
