"""A data set by name: `digits`, `cifar10`, `npz:FILE`, `folder:FOLDER`, `hf:OWNER/NAME` or `module:function`.

Behind slashes stand first `size:PIXELS`, to which images are resized and cropped, then variants and subsets. Splits never change: a
source's own ones where it has them, otherwise stratified by class from a fixed seed. They are drawn before variants are applied, so
that an image and its rotation stand on the same side.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from popgen.data.dataset import SPLITS, DataSet, Part, from_arrays
from popgen.data.folder import data_folder
from popgen.data.images.variants import VARIANTS, apply_variants, parse_variant
from popgen.data.sources.binary import CIFAR
from popgen.data.sources.catalogue import CATALOGUE
from popgen.data.sources.files import folder, npz
from popgen.data.sources.gather import SIZES
from popgen.data.sources.hub import check_hub, hub, parse_hub
from popgen.data.sources.torchvision import named, named_is_there, sized
from popgen.data.subsets import SUBSETS, check_subset, class_rows, shot_rows
from popgen.errors import BadInput, NotFound, brief, unknown_name
from popgen.refs import is_module_attr, load_attr

__all__ = ["SPLITS", "DataSet", "Part", "check_data_name", "from_arrays", "load_data", "split_name"]

_MODIFIERS = (*VARIANTS, *SUBSETS, "size")  # what may stand behind a name
_KEPT_BYTES = 4 * 2**30  # of data sets that were loaded: the older ones go, the last one stays however large it is


def split_name(name: str) -> tuple[str, list[str]]:
    """The source, with the size that its images are brought to, and its variants and subsets.

    >>> split_name("digits/rotate:45/invert"), split_name("food101/size:32/mirror")
    (('digits', ['rotate:45', 'invert']), ('food101/size:32', ['mirror']))
    """
    parts = name.split("/")
    cut = len(parts)
    while cut > 1 and parts[cut - 1].partition(":")[0] in _MODIFIERS:
        prefix, _, path = "/".join(parts[:cut]).partition(":")
        if prefix in ("npz", "folder", "hf") and Path(path).exists():
            break  # a file or folder that is called like a variant
        cut -= 1
    if cut < len(parts) and parts[cut].startswith("size:"):
        cut += 1
    return "/".join(parts[:cut]), parts[cut:]


def check_data_name(name: str) -> None:
    """Refuse a name that cannot be loaded, without loading it.

    Raises:
        NotFound: no such source, file or variant.
    """
    if name.endswith("/") and ":" not in name.split("/")[0]:
        raise BadInput(f"the data set name {name!r} ends with a slash", "a variant should follow", "Remove the slash.")
    source, variants = split_name(name)
    for variant in variants:
        if variant.partition(":")[0] in SUBSETS:
            check_subset(variant)
        elif variant.partition(":")[0] == "size":
            raise BadInput(
                f"{variant!r} of {name!r} stands behind a variant",
                "images are resized when they are read",
                f"Put it first: {'/'.join([source, variant, *(v for v in variants if v != variant)])}.",
            )
        else:
            parse_variant(variant)
    base, _ = split_size(source)
    prefix, _, path = base.partition(":")
    if prefix in ("npz", "folder"):
        if not Path(path).exists():
            raise NotFound(
                f"{path!r} of data set {name!r} does not exist", "", "Give the path from the current folder."
            )
    elif prefix == "hf":
        check_hub(base)
    elif base in _BUILTIN or base in CATALOGUE or is_module_attr(base):
        return
    else:
        first, _, rest = base.partition("/")
        if (first in _BUILTIN or first in CATALOGUE) and rest:
            unknown = next(p for p in (part.partition(":")[0] for part in rest.split("/")) if p not in _MODIFIERS)
            todo = f"Variants stand behind the data set: {first}/rotate:45."
            raise unknown_name("variant", unknown, _MODIFIERS, todo)
        known = [*_BUILTIN, *CATALOGUE, "npz:FILE", "folder:FOLDER", "hf:OWNER/NAME", "module:function"]
        raise unknown_name("data set", base, known)


def split_size(source: str) -> tuple[str, int | None]:
    """A source and the size that its images are brought to, None where it names none.

    Raises:
        BadInput: the size is not a whole number in its range.

    >>> split_size("food101/size:32"), split_size("digits")
    (('food101', 32), ('digits', None))
    """
    base, slash, last = source.rpartition("/")
    if not slash or not last.startswith("size:"):
        return source, None
    text = last.removeprefix("size:")
    if not text.isdecimal() or not SIZES[0] <= int(text) <= SIZES[1]:
        raise BadInput(
            f"{last!r} of {source!r} is not a size",
            f"whole pixels from {SIZES[0]} to {SIZES[1]}, of both sides",
            f"For example {base}/size:32.",
        )
    return base, int(text)


def load_data(name: str, data_dir: str | Path | None = None) -> DataSet:
    """The data set of that name, variants applied.

    Args:
        data_dir: the folder of named data sets; None: POPGEN_DATA, else ./data.

    Raises:
        NotFound: no such source, file or variant.
        BrokenFile: the file is not what it should be.

    >>> data = load_data("digits/rotate:45")
    >>> data.shape, len(data.train), len(data.val), len(data.test)
    ((1, 8, 8), 1000, 300, 497)
    """
    check_data_name(name)
    root = data_folder(data_dir)
    key = name, _file_state(split_size(split_name(name)[0])[0], root)
    if key in _loaded:
        _loaded.move_to_end(key)
        return _loaded[key]
    made = _load(name, root)
    _loaded[key] = made
    while len(_loaded) > 1 and sum(map(_bytes, _loaded.values())) > _KEPT_BYTES:
        _loaded.popitem(last=False)
    return made


def is_local(name: str, data_dir: str | Path | None = None) -> bool:
    """Whether a data set can be loaded without a network, and without running code that is not popgen's.

    >>> is_local("digits/rotate:30"), is_local("npz:missing.npz"), is_local("math:pi")
    (True, False, False)
    """
    base, _ = split_size(split_name(name)[0])
    prefix, _, path = base.partition(":")
    if prefix in ("npz", "folder", "hf"):
        return Path(parse_hub(path)[0] if prefix == "hf" else path).exists()
    return base in _BUILTIN or (base in CATALOGUE and named_is_there(base, data_folder(data_dir)))


def _bytes(data: DataSet) -> int:
    return sum(getattr(data, split).inputs.numel() * 4 for split in SPLITS)


def _file_state(base: str, root: Path) -> tuple[tuple[str, int, int], ...]:
    """What tells a changed file from the one that was loaded: absolute path, time and size of each."""
    prefix, _, path = base.partition(":")
    if base in CATALOGUE:  # an .npz, or the files and folders that stand for a layout
        inside = [f"{base}.npz", *CATALOGUE[base].needs, *CIFAR.get(base, ())[:1]]
        found = [p for place in (root, root / base) for p in (place / name for name in inside) if p.exists()]
        files = found + [file for p in found if p.is_dir() for file in sorted(p.iterdir())]
        return ((str(root), 0, 0), *((str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in files))
    if prefix not in ("npz", "folder", "hf"):
        return ()
    path = parse_hub(path)[0] if prefix == "hf" else path
    files = [Path(path)] if prefix == "npz" else sorted(p for p in Path(path).rglob("*") if p.is_file())
    return tuple((str(f.absolute()), f.stat().st_mtime_ns, f.stat().st_size) for f in files)


def _load(name: str, root: Path) -> DataSet:
    source, variants = split_name(name)
    if variants:
        changed = load_data(source, root)
        for text in variants:
            changed = _modified(changed, text)
        return replace(changed, name=name)
    base, size = split_size(source)
    prefix, _, path = base.partition(":")
    if base in CATALOGUE:
        return named(name, base, size, root)
    if prefix == "folder":
        return folder(name, Path(path), size)
    if prefix == "hf":
        return hub(name, path, size)
    made = npz(name, Path(path)) if prefix == "npz" else _made(base)
    return made if size is None else replace(sized(made, size), name=name)


def _made(base: str) -> DataSet:
    """A built-in data set, or what the user's function makes."""
    if base in _BUILTIN:
        return _BUILTIN[base](base)
    make = load_attr(base)
    try:
        found = make()
    except Exception as error:  # it is the user's own code
        raise BadInput(
            f"{base!r} failed to make a data set", brief(error), "Correct it, or call it by itself."
        ) from error
    if not isinstance(found, DataSet):
        raise BadInput(f"{base!r} returned {type(found).__name__}", "it must return a popgen.data.DataSet", "")
    return found


def _modified(data: DataSet, text: str) -> DataSet:
    """The data set with one variant or subset applied."""
    kind = text.partition(":")[0]
    if kind == "shots":
        return replace(data, train=data.train.take(shot_rows(text, data.train.targets, data.classes, data.name)))
    if kind == "classes":
        rows = class_rows(text, data.classes, data.name)
        label_of = torch.full((len(data.classes),), -1)
        label_of[rows] = torch.arange(len(rows))
        kept = data.each(lambda part: part.take((label_of[part.targets] >= 0).nonzero().flatten()))
        renumbered = kept.each(lambda part: Part(part.inputs, label_of[part.targets]))
        return replace(renumbered, classes=tuple(data.classes[row] for row in rows))
    if not data.has_images:
        raise BadInput(
            f"{text!r} cannot be applied to {data.name!r}",
            f"variants are for images, its examples have the shape {data.shape}",
            "Leave the variant out.",
        )
    return data.each(lambda part: Part(apply_variants(part.inputs, [text]), part.targets))


def _digits(name: str) -> DataSet:
    from sklearn.datasets import load_digits  # takes a second, which the workers of a search are spared

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).float().unsqueeze(1) / 16
    labels = torch.from_numpy(bunch.target).long()
    total = len(labels)
    return from_arrays(name, images, labels, tuple("0123456789"), (1000 / total, 300 / total))


_BUILTIN: dict[str, Callable[[str], DataSet]] = {"digits": _digits}
_loaded: OrderedDict[tuple[str, tuple[tuple[str, int, int], ...]], DataSet] = OrderedDict()
