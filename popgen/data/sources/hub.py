"""Reads data sets through the Hugging Face datasets library: `hf:OWNER/NAME`, `hf:OWNER/NAME@CONFIG` or `hf:FOLDER`.

A folder is one that save_to_disk wrote, or one of parquet files. The images are in the one column of type Image; where there
is none, texts are in a column that `popgen.data.text.columns` knows. The labels are in the one column of type ClassLabel, or in the column that `#COLUMN` at the end of the name gives, which
may hold whole numbers or texts. Splits are the data set's own, by the names of `popgen.data.sources.splits`; missing
ones are cut from train. No code of a repository runs, because datasets reads only data files from version 4.0 on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from popgen.data.dataset import SPLITS, DataSet, from_parts
from popgen.data.folder import is_there, local_path
from popgen.data.images.reader import read_image
from popgen.data.sources.gather import UnreadImages, gather
from popgen.data.sources.labels import is_label_type, read_labels
from popgen.data.sources.splits import PassedOver, name_splits, say_counts
from popgen.data.text.hub import holds_texts, load_hub_texts
from popgen.errors import BadInput, BrokenFile, NotFound, Offline, brief

_NO_IMAGE = "the row holds none"
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def parse_hub(text: str) -> tuple[str, str | None, str | None]:
    """Split the text that follows `hf:` into the repository or folder, the configuration and the label column.

    The configuration and the column are None if the text gives none.

    >>> parse_hub("uoft-cs/cifar100@default#fine_label"), parse_hub("ylecun/mnist")
    (('uoft-cs/cifar100', 'default', 'fine_label'), ('ylecun/mnist', None, None))
    """
    path = str(local_path(text)) if text.startswith("~") else text
    if is_there(path):  # The path of a folder may itself hold # and @.
        return path, None, None
    source, _, column = path.partition("#")
    name, _, config = (source, "", "") if is_there(source) else source.partition("@")
    return name, config or None, column or None


def check_hub(name: str) -> None:
    """Check the form of a name `hf:...`, without reading the data set.

    Raises:
        NotFound: it names neither a folder nor, by its form, a repository.
        Offline: the datasets library is not installed.
    """
    source, _, _ = parse_hub(name.removeprefix("hf:"))
    if not source or not ((is_there(source) and Path(source).is_dir()) or _NAME.fullmatch(source)):
        raise NotFound(
            f"{source!r} of data set {name!r} is neither a folder nor OWNER/NAME of the hub",
            "",
            "For example hf:ylecun/mnist, or hf:FOLDER from the current folder.",
        )
    if find_spec("datasets") is None:
        raise Offline(
            f"data set {name!r} cannot be read", "the datasets library is not installed", "pip install 'popgen[hf]'"
        )


def load_hub(name: str, text: str, size: int | None, alpha: str = "white") -> DataSet:
    """Load a data set from the hub or from a folder.

    Rows without an image, with one that cannot be read, or of a class that train does not have are passed over.
    Remarks say how many images were read and what was passed over. A data set of texts is read by
    `popgen.data.text.hub.load_hub_texts`, which may refuse it for reasons of its own.

    Args:
        name: the name of the result.
        text: the text that follows `hf:`, see `parse_hub`.
        size: the side in pixels that images are resized and cropped to. If None, all images must have the same size.
        alpha: what lies behind transparent pixels (see `popgen.data.images.reader`).

    Raises:
        Offline: it is not in the library's cache, and the hub does not answer.
        NotFound: there is no such data set or column.
        BadInput: it has no training split, not exactly one column of images or of labels, images without a label, or
            images of different sizes.
        BrokenFile: a folder cannot be read, or no image of a split can.
    """
    source, config, column = parse_hub(text)
    loaded = _load(name, source, config)
    tables = dict(loaded) if hasattr(loaded, "keys") else {"all": loaded}
    own = {"all": "all"} if "all" in tables else name_splits(name, tables)
    if not {"train", "all"} & own.keys():
        raise BadInput(f"{name!r} has no split called train", f"it has {', '.join(tables)}", "Choose another data set.")
    used: dict[str, Any] = {split: tables[own[split]] for split in (*SPLITS, "all") if split in own}
    unused = [split for split in tables if split not in own.values()]
    not_used = (f"splits that are not used: {', '.join(unused)}",) if unused else ()
    features = next(iter(used.values())).features
    if not _images(features) and holds_texts(features, column):
        data = load_hub_texts(name, used, column, Path(source) if is_there(source) else None)
        return replace(data, remarks=(*data.remarks, *not_used))
    image, label = _columns(name, features, column)
    passed_over = {split: PassedOver() for split in used}
    classes, labels = read_labels(name, used, label, passed_over)
    unread = {split: _unread(name, table, image, labels[split], alpha) for split, table in used.items()}
    gathered = gather(name, unread, size, passes_over=True)
    for split, errors in gathered.unreadable.items():
        rows = [row for row, _ in labels[split]]
        for index, error in errors.items():
            if error.why == _NO_IMAGE:
                passed_over[split].add("without an image", f"row {rows[index]}")
            else:
                passed_over[split].add("unreadable", f"row {rows[index]}: {error.why}")
    remarks = say_counts({split: len(part) for split, part in gathered.parts.items()}, passed_over, "rows")
    return from_parts(name, classes, gathered.parts, remarks + not_used + gathered.remarks)


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


def _images(features: Any) -> list[str]:
    """The columns of images."""
    import datasets

    return [key for key, kind in features.items() if isinstance(kind, datasets.Image)]


def _columns(name: str, features: Any, column: str | None) -> tuple[str, str]:
    """The names of the image column and the label column."""
    import datasets

    images = _images(features)
    labels = [key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    has = f"it has {', '.join(f'{key} ({type(kind).__name__})' for key, kind in features.items())}"
    if len(images) != 1:
        what = "columns of type Image" if images else "columns of type Image and none of texts that popgen knows"
        raise BadInput(f"{name!r} has {len(images)} {what}", has, "One is needed; call that of texts text.")
    if column is None and len(labels) != 1:
        others = [key for key, kind in features.items() if is_label_type(kind)]
        todo = f"Name the label's column: {name.partition('/size:')[0]}#{(labels or others or ['COLUMN'])[0]}."
        raise BadInput(f"{name!r} has {len(labels)} columns of type ClassLabel", has, todo)
    label = column or labels[0]
    if label not in features:
        raise NotFound(f"{name!r} has no column {label!r}", has, "Name one of them.")
    if label not in labels and not is_label_type(features[label]):
        raise BadInput(
            f"column {label!r} of {name!r} does not hold whole numbers or texts",
            has,
            "A class is a number from 0, or a text.",
        )
    return images[0], label


def _unread(name: str, table: Any, image: str, labels: list[tuple[int, int]], alpha: str) -> UnreadImages:
    """The images of one table that are still to be read.

    Args:
        labels: the rows that are used, and the class index of each.
    """
    import datasets

    mode = table.features[image].mode
    encoded = table.select_columns([image]).cast_column(image, datasets.Image(decode=False))

    def read(i: int) -> tuple[np.ndarray, int]:
        row, label = labels[i]
        what = f"image {row} of {name!r}"
        found = encoded[row][image]
        if found is None or (found["bytes"] is None and found["path"] is None):
            raise BrokenFile(f"{what} is missing", _NO_IMAGE, "Leave the row out.")
        content = found["bytes"] if found["bytes"] is not None else Path(found["path"])
        return read_image(content, what, alpha, mode), label

    return UnreadImages(len(labels), read)
