"""Loads a data set by name: `digits`, `npz:FILE`, `text:FILE`, `folder:FOLDER`, `lines:FILE`, `hf:OWNER/NAME`, `module:function`.

Slashes append modifiers to the name of the source. The first say how images are read: `size:PIXELS` resizes and crops
them to squares of that size, `alpha:white`, `alpha:black` or `alpha:ignore` says what lies behind transparent pixels of
the user's own files, `block:BYTES` cuts the text of `lines:`. Variants and subsets follow. Splits are fixed: they are the source's own where it has them, and
otherwise stratified by class from a fixed seed. They are made before variants are applied, so that an image and its
rotation are in the same split.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from popgen.data.check import check_made
from popgen.data.dataset import SPLITS, DataSet, from_arrays
from popgen.data.folder import data_folder, is_there, local_path
from popgen.data.images.reader import ALPHAS
from popgen.data.images.styles import apply_style, check_style
from popgen.data.images.union import apply_union, is_union, parse_union
from popgen.data.images.variants import apply_variants, check_variant
from popgen.data.names import BUILT_IN, MODIFIERS, READING, STYLE, unknown_source
from popgen.data.reading import OWN_FILES, Reading, check_reading, split_reading
from popgen.data.remarks import source_remarks
from popgen.data.sources.arrays import load_npz
from popgen.data.sources.binary import CIFAR
from popgen.data.sources.catalogue import CATALOGUE
from popgen.data.sources.files import load_folder
from popgen.data.sources.hub import check_hub, load_hub, parse_hub
from popgen.data.sources.torchvision import is_named_here, load_named, resize_data
from popgen.data.subsets import (
    SUBSETS,
    check_subset,
    check_together,
    class_indices,
    label_indices,
    parse_blocks,
    shot_indices,
)
from popgen.data.text.folder import holds_texts, load_text_folder
from popgen.data.text.lines import BLOCK, first_blocks, load_lines
from popgen.data.text.load import check_text, load_text
from popgen.data.text.tasks import tasks_file
from popgen.errors import BadInput, NotFound, brief
from popgen.refs import is_module_attr, load_attr

_READ_AS = {"size": "images are resized", "alpha": "images are laid on a colour", "block": "texts are cut"}
_CACHE_BYTES = 4 * 2**30  # the cache's limit: a few sets of CIFAR-10's size (0.7 GiB as float32) and their variants
_FileStates = tuple[tuple[str, int, int], ...]  # absolute path, time of the last change in ns and bytes of each file
_Key = tuple[str, _FileStates]  # name and files of a data set; a changed file has another key and is read again


class DataCache:
    """The most recently used data sets whose inputs fit into `limit` bytes together.

    The data set that was put last is kept even if it alone is larger than the limit.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._data_sets: OrderedDict[_Key, DataSet] = OrderedDict()  # ordered by use, the most recent last

    def get(self, key: _Key) -> DataSet | None:
        """The data set of that key, or None if it is not in the cache."""
        if key in self._data_sets:
            self._data_sets.move_to_end(key)
        return self._data_sets.get(key)

    def put(self, key: _Key, data: DataSet) -> None:
        """Add a data set, then drop those that have gone unused for longest until the others fit."""
        self._data_sets[key] = data
        while len(self._data_sets) > 1 and sum(map(_input_bytes, self._data_sets.values())) > self.limit:
            self._data_sets.popitem(last=False)


def _input_bytes(data: DataSet) -> int:
    return sum(getattr(data, split).inputs.nbytes for split in SPLITS)


# load_data owns the cache. There is one for the process because checks and jobs load the same data sets again by name.
_cache = DataCache(_CACHE_BYTES)


def split_name(name: str) -> tuple[str, list[str]]:
    """Split a name into its source (with how its images are read) and the list of its variants and subsets.

    >>> split_name("digits/rotate:45/invert"), split_name("food101/size:32/mirror")
    (('digits', ['rotate:45', 'invert']), ('food101/size:32', ['mirror']))
    """
    parts = name.split("/")
    cut = len(parts)
    while cut > 1 and parts[cut - 1].partition(":")[0] in MODIFIERS:
        prefix, _, path = "/".join(parts[:cut]).partition(":")
        if prefix in OWN_FILES and is_there(path):
            break  # This is a path whose last part is called like a variant.
        cut -= 1
    while cut < len(parts) and parts[cut].partition(":")[0] in READING:
        cut += 1
    return "/".join(parts[:cut]), parts[cut:]


def check_data_name(name: str) -> None:
    """Check that a name can be loaded, without loading it.

    Raises:
        NotFound: there is no such source, file or variant.
        BadInput: a modifier has the wrong form or stands in the wrong position.
        Offline: the source needs the datasets library, which is not installed.
    """
    if name.endswith("/") and ":" not in name.split("/")[0]:
        raise BadInput(f"the data set name {name!r} ends with a slash", "a variant should follow", "Remove the slash.")
    source, variants = split_name(name)
    for variant in variants:
        if variant.partition(":")[0] in SUBSETS:
            check_subset(variant)
        elif variant.partition(":")[0] == STYLE:
            check_style(variant)
        elif is_union(variant):
            parse_union(variant)
        elif (kind := variant.partition(":")[0]) in READING:
            raise BadInput(
                f"{variant!r} of {name!r} stands behind a variant",
                f"{_READ_AS[kind]} when they are read",
                f"Put it first: {'/'.join([source, variant, *(v for v in variants if v != variant)])}.",
            )
        else:
            check_variant(variant)
    check_together(variants)
    base, reading = split_reading(source)
    prefix, _, path = base.partition(":")
    check_reading(name, prefix, reading)
    if reading.alpha is not None and prefix not in OWN_FILES:
        raise BadInput(
            f"{name!r} has an alpha:, which is for images in files of your own",
            f"{base!r} is read as it was published or made",
            "Leave it out; folder:, npz: and hf: have it.",
        )
    if prefix in ("npz", "text", "folder", "lines"):
        if not is_there(path):
            raise NotFound(
                f"{path!r} of data set {name!r} does not exist", "", "Give the path from the current folder."
            )
        if prefix == "text":
            _refuse_for_texts(name, name.removeprefix(base).split("/")[1:])
            check_text(name, local_path(path))
    elif prefix == "hf":
        check_hub(base)
    elif base in _BUILTIN or base in CATALOGUE or is_module_attr(base):
        return
    else:
        raise unknown_source(base)


def _refuse_for_texts(name: str, modifiers: list[str]) -> None:
    """Refuse what only images can have: variants, and how they are read."""
    wrong = next((text for text in modifiers if text.partition(":")[0] not in SUBSETS), None)
    if wrong is not None:
        raise BadInput(
            f"{wrong!r} cannot be applied to {name!r}",
            "it is for images, and these are texts; subsets (classes, shots, labels) are for both",
            "Leave it out.",
        )


def load_data(name: str, data_dir: str | Path | None = None) -> DataSet:
    """Load the data set of that name and apply its variants and subsets.

    Loaded data sets are kept in memory, up to 4 GiB; a name whose files have changed is read again.

    Args:
        data_dir: the folder of named data sets. If None, it is that of the environment variable POPGEN_DATA, or else
            ./data.

    Raises:
        NotFound: there is no such source, file, variant or class.
        BadInput: a modifier cannot be applied, or the source's arrays, labels or images do not fit together.
        BrokenFile: a file cannot be read.
        Offline: the data set is not on this machine and cannot be downloaded.

    >>> data = load_data("digits/rotate:45")
    >>> data.shape, len(data.train), len(data.val), len(data.test)
    ((1, 8, 8), 1000, 300, 497)
    """
    check_data_name(name)
    root = data_folder(data_dir)
    key = name, _file_states(split_reading(split_name(name)[0])[0], root)
    data = _cache.get(key)
    if data is None:
        data = _load(name, root)
        _cache.put(key, data)
    return data


def is_local(name: str, data_dir: str | Path | None = None) -> bool:
    """Whether a data set can be loaded without a network and without running the user's code.

    Raises:
        BadInput: the size or the colour behind transparent pixels in the name has the wrong form.

    >>> is_local("digits/rotate:30"), is_local("npz:missing.npz"), is_local("math:pi")
    (True, False, False)
    """
    base, _ = split_reading(split_name(name)[0])
    prefix, _, path = base.partition(":")
    if prefix in OWN_FILES:
        return is_there(parse_hub(path)[0] if prefix == "hf" else path)
    return base in _BUILTIN or (base in CATALOGUE and is_named_here(base, data_folder(data_dir)))


def _file_states(base: str, root: Path) -> _FileStates:
    """The state of every file that a data set is read from; empty if it is built in or made by a function."""
    prefix, _, path = base.partition(":")
    if base in CATALOGUE:
        # The set is one .npz file, or the files and folders of torchvision's or CIFAR's binary layout.
        inside = [f"{base}.npz", *CATALOGUE[base].needs, *([CIFAR[base].folder] if base in CIFAR else [])]
        found = [p for above in (root, root / base) for p in (above / name for name in inside) if p.exists()]
        files = found + [file for p in found if p.is_dir() for file in sorted(p.iterdir())]
        return ((str(root), 0, 0), *((str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in files))
    if prefix not in OWN_FILES:
        return ()
    path = parse_hub(path)[0] if prefix == "hf" else path
    if not is_there(path):
        return ()  # It is on the hub.
    place = local_path(path)
    files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
    files += [file for file in (tasks_file(place),) if prefix in ("text", "lines") and file.is_file()]
    return tuple((str(f.absolute()), f.stat().st_mtime_ns, f.stat().st_size) for f in files)


def _load(name: str, root: Path) -> DataSet:
    """Load a data set that is not in the cache."""
    source, variants = split_name(name)
    if variants:
        data = load_data(source, root)
        for text in variants:
            data = _apply_modifier(data, text)
        return replace(data, name=name)
    base, reading = split_reading(source)
    prefix, _, path = base.partition(":")
    if base in CATALOGUE:
        return load_named(name, base, reading.size, root)
    if prefix in OWN_FILES:
        data = _load_own(name, prefix, path, reading)
        if data.has_texts and prefix != "lines":
            _refuse_for_texts(name, name.removeprefix(base).split("/")[1:])
        return replace(data, remarks=(*data.remarks, *source_remarks(data)))
    data = _call_source(base)
    return data if reading.size is None else replace(resize_data(data, reading.size), name=name)


def _load_own(name: str, prefix: str, path: str, reading: Reading) -> DataSet:
    """Load the user's own files, or a data set of the hub."""
    alpha = reading.alpha or ALPHAS[0]
    if prefix == "text":
        return load_text(name, local_path(path))
    if prefix == "folder" and holds_texts(local_path(path)):
        return load_text_folder(name, local_path(path))
    if prefix == "lines":
        return load_lines(name, local_path(path), reading.block or BLOCK)
    if prefix == "folder":
        return load_folder(name, local_path(path), reading.size, alpha)
    if prefix == "hf":
        return load_hub(name, path, reading.size, alpha)
    return resize_data(load_npz(name, local_path(path), alpha), reading.size)


def _call_source(base: str) -> DataSet:
    """Call the function of a built-in data set, or the user's function that `module:function` names."""
    if base in _BUILTIN:
        return _BUILTIN[base](base)
    make = load_attr(base)
    try:
        found = make()
    except Exception as error:  # The user's code may raise anything.
        raise BadInput(
            f"{base!r} failed to make a data set", brief(error), "Correct it, or call it by itself."
        ) from error
    if not isinstance(found, DataSet):
        raise BadInput(f"{base!r} returned {type(found).__name__}", "it must return a popgen.data.DataSet", "")
    remarks = (*check_made(base, found), *source_remarks(found))
    return replace(found, remarks=(*found.remarks, *remarks))


def _apply_modifier(data: DataSet, text: str) -> DataSet:
    """Apply one variant or subset to a data set."""
    kind = text.partition(":")[0]
    if kind == "shots":
        return replace(data, train=data.train.take(shot_indices(text, data.train.targets, data.classes, data.name)))
    if kind == "labels":
        return _with_labels(data, text)
    if kind == "blocks":
        return first_blocks(data, parse_blocks(text))
    if kind == "classes":
        indices = class_indices(text, data.classes, data.name)
        new_label = torch.full((len(data.classes),), -1)  # -1 marks a class that is not kept
        new_label[indices] = torch.arange(len(indices))
        kept = data.each(lambda part: part.take((new_label[part.targets] >= 0).nonzero().flatten()))
        renumbered = kept.each(lambda part: replace(part, targets=new_label[part.targets]))
        classes, phrases = (tuple(own[i] for i in indices) if own else () for own in (data.classes, data.phrases))
        return replace(renumbered, classes=classes, phrases=phrases)
    if data.has_texts:
        _refuse_for_texts(data.name, [text])
    if not data.has_images:
        raise BadInput(
            f"{text!r} cannot be applied to {data.name!r}",
            f"variants are for images, its examples have the shape {data.shape}",
            "Leave the variant out.",
        )
    if kind == STYLE:
        return apply_style(data, text)
    if is_union(text):
        return apply_union(data, text)
    return data.each(lambda part: replace(part, inputs=apply_variants(part.inputs, [text])))


def _with_labels(data: DataSet, text: str) -> DataSet:
    """The data set with a few labelled examples in all, which are both train and val."""
    few = data.train.take(label_indices(text, data.train.targets, data.classes, data.name))
    counts = few.targets.bincount(minlength=len(data.classes)).tolist()
    each = ", ".join(f"{name} {count}" for name, count in zip(data.classes, counts, strict=True))
    remark = f"{len(few)} labelled {data.noun} in all ({each}); train and val are both these"
    return replace(data, train=few, val=few, remarks=(*data.remarks, remark))


def _digits_table() -> np.ndarray:
    """scikit-learn's digits, read from the file in its package: importing the package takes a second at every start."""
    package = find_spec("sklearn")
    file = Path((package and package.origin) or "").parent / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits  # its files lie elsewhere in this version

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])


def _digits(name: str) -> DataSet:
    table = _digits_table()  # a row an image: 64 pixels from 0 to 16, and the label
    images = torch.from_numpy(table[:, :-1]).float().reshape(-1, 1, 8, 8) / 16
    labels = torch.from_numpy(table[:, -1]).long()
    total = len(labels)
    return from_arrays(name, images, labels, tuple("0123456789"), (1000 / total, 300 / total))


_BUILTIN: dict[str, Callable[[str], DataSet]] = dict(zip(BUILT_IN, (_digits,), strict=True))
