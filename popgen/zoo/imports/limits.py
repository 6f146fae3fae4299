"""Checks what the headers of a checkpoint claim against the file, before anything of that size is allocated.

A file of a kilobyte may claim a storage of a terabyte: in the list of a zip archive, in the pickle of PyTorch's older
format, by strides of zero, or by a call that makes a tensor or bytearray of a given size.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from torch import Tensor

from popgen.errors import BadInput, BrokenFile
from popgen.zoo.imports.causes import zip_cause
from popgen.zoo.imports.pickled import read_calls

MOST_BYTES = 2 * 1024**3  # what a header may claim beyond the size of its file
# Types that may stand in a pickle as such, and that allocate memory of any size when they are called.
_ALLOCATES = re.compile(r"(builtins|__builtin__)\.bytearray|torch(\.\w+)*\.([A-Z]\w*)?(Tensor|Storage)")
_LEGACY_PICKLES = 5  # pickles at the start of PyTorch's older format: magic number, version, system, content, keys


def check_archive(path: Path) -> None:
    """Refuse a zip archive that torch.save has not written, or whose list claims more than the file can hold.

    Raises:
        BrokenFile: as above, or its pickle holds a call that allocates memory of any size.
        BadInput: it holds quantised tensors.
        zipfile.BadZipFile: its list is missing or damaged.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if cause := zip_cause(path, [entry.filename for entry in entries]):
            raise cause
        # Two readers might take different ones of two entries with one name, so that the checked one is not the read one.
        if len({entry.filename.lower() for entry in entries}) < len(entries):
            raise BrokenFile(f"{path} is not a sound archive", "a name occurs in it twice", "Download it again.")
        claimed, size = sum(entry.file_size for entry in entries), path.stat().st_size
        if claimed > max(size, MOST_BYTES):
            raise _claim_error(path, claimed, size)
        for entry in entries:
            if entry.filename.lower().endswith("/data.pkl"):
                with archive.open(entry) as file:
                    _check_pickle(file, path, size=None)


def check_legacy(file: IO[bytes], path: Path) -> None:
    """Refuse a file of PyTorch's older format whose pickles claim storages larger than the file.

    Args:
        file: the open file, which is read from its start.

    Raises:
        BrokenFile: as above, or a pickle is cut off or holds a call that allocates memory of any size.
        BadInput: it holds quantised tensors.
    """
    size = path.stat().st_size
    for _ in range(_LEGACY_PICKLES):
        if file.tell() < size:
            _check_pickle(file, path, size)


def check_tensors(tensors: Iterable[Tensor], path: Path) -> None:
    """Refuse tensors that are much larger than their storages, as strides of zero make them.

    Raises:
        BadInput: together they have more than 2 GB beyond what is stored.
    """
    claimed, stored = 0, {}
    for tensor in tensors:
        claimed += tensor.numel() * max(tensor.element_size(), 4)  # they become float32
        storage = tensor.untyped_storage()
        stored[storage.data_ptr()] = 2 * storage.nbytes()  # half precision doubles
    if claimed > sum(stored.values()) + MOST_BYTES:
        raise BadInput(
            f"{path} holds tensors of {claimed / 1e9:.1f} GB in storages of {sum(stored.values()) / 2e9:.3f} GB",
            "they are expanded from a few values",
            "Save tensors that hold their values: tensor.contiguous().",
        )


def _check_pickle(file: IO[bytes], path: Path, size: int | None) -> None:
    """Refuse a pickle with a call that allocates, with a quantised tensor, or with storages of more values than `size`."""
    claimed: dict[object, int] = {}
    for kind, value in read_calls(file):
        if kind == "call":
            name, arguments = value
            if name == "torch._utils._rebuild_qtensor":
                raise quantised_error(path)
            if _ALLOCATES.fullmatch(str(name)) and arguments != ():
                raise BrokenFile(
                    f"{path} is refused: its pickle calls {name}",
                    "it makes objects of any size",
                    "Save it with torch.save(model.state_dict(), FILE) or as .safetensors.",
                )
        elif size is not None:
            key, values = _storage(value, path)
            claimed[key] = max(values, claimed.get(key, 0))
            if sum(claimed.values()) > size:
                raise _claim_error(path, sum(claimed.values()), size)


def _storage(reference: Any, path: Path) -> tuple[object, int]:
    """The key and the number of values of a storage: ('storage', type, key, place, values, view).

    Raises:
        BrokenFile: the reference is not as torch.save writes it.
    """
    match reference:
        case (_, _, str(key), _, int(values), *_):
            return key, values
        case (_, _, _, _, int(values), *_):
            return object(), values
    raise BrokenFile(f"{path} is not as torch.save writes it", "a storage without a plain size", "Download it again.")


def quantised_error(path: Path) -> BadInput:
    """The error for a file of quantised tensors."""
    return BadInput(
        f"{path} holds quantised tensors",
        "they have steps and offsets of their own, and their rounding is lost in float32",
        "Use the checkpoint before quantisation, or save tensor.dequantize().",
    )


def _claim_error(path: Path, claimed: int, size: int) -> BrokenFile:
    what = f"{path} is damaged: its header claims more than the file holds"
    return BrokenFile(what, f"{claimed} in {size} bytes", "Download it again.")
