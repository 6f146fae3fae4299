"""The tensors of safetensors files, whose names and shapes are known before any is read, and which are read one at a time.

The base is a file, an index of several files (Hugging Face's model.safetensors.index.json), or a folder with either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from popgen.errors import BadInput, BrokenFile, NotFound, PopgenError, brief
from popgen.json_text import parse_json
from popgen.refs import inside
from popgen.zoo.imports.causes import check_head, os_cause

SUFFIX, INDEX = ".safetensors", ".safetensors.index.json"
_FIRST = (f"model{INDEX}", f"model{SUFFIX}")  # what a folder of transformers holds
_GLOBS = (f"*{INDEX}", f"best-*{SUFFIX}", f"*{SUFFIX}")  # the second is what `popgen search` writes
_AGAIN = "Download it again."


@dataclass(frozen=True)
class Stored:
    """One tensor in a file."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # as safetensors writes it: F32, BF16, I64, ...
    read: Callable[[], Tensor]


def stored_tensors(base: str | Path) -> list[Stored]:
    """Return the tensors of a file, an index, or a folder with either, in the order of their files.

    Raises:
        NotFound: there is no such file or folder, or none of this kind in the folder.
        BadInput: the folder holds several such files and no index, the file is of another kind, or an index names a file
            outside its folder.
        BrokenFile: a file is not what its name says, or a shard is missing.
    """
    file = _file(Path(base))
    if not file.name.endswith(INDEX):
        return list(_of_file(file))
    try:
        weight_map = parse_json(file.read_bytes())["weight_map"]
        shards = [inside(file.parent, name) for name in sorted(set(weight_map.values()))]
    except PopgenError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenFile(f"{file} is not the index of a sharded checkpoint", brief(error), _AGAIN) from error
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        what = f"{file} names {len(shards)} shards, of which {len(missing)} are not there"
        raise BrokenFile(what, ", ".join(missing[:4]), "Download them into its folder.")
    found = [tensor for shard in shards for tensor in _of_file(shard)]
    lacking = sorted(set(weight_map) - {tensor.name for tensor in found})
    if lacking:
        raise BrokenFile(f"{file} names tensors that no shard has", ", ".join(lacking[:4]), _AGAIN)
    return found


def _file(base: Path) -> Path:
    """The file that a file or folder means."""
    if base.is_file():
        if not base.name.lower().endswith((SUFFIX, INDEX)):
            raise BadInput(
                f"{base} is not named as a safetensors file",
                "nothing is unpickled here",
                "`popgen zoo import` reads files of PyTorch; then name it as ZOO#ID.",
            )
        return base
    if not base.is_dir():
        raise NotFound(f"there is no file or folder {str(base)!r}", "", f"Name a {SUFFIX} file or a folder with one.")
    for name in _FIRST:
        if (base / name).is_file():
            return base / name
    found = next((some for glob in _GLOBS if (some := sorted(base.glob(glob)))), [])
    if not found:
        raise NotFound(f"{base} holds no {SUFFIX} file", "files of other kinds are not read", "Name the file itself.")
    if len(found) > 1:
        named = ", ".join(str(path) for path in found[:8])
        raise BadInput(
            f"{base} holds {len(found)} files of weights", "one network is ranked at a time", f"Name one: {named}."
        )
    return found[0]


def _of_file(file: Path) -> Iterator[Stored]:
    try:
        check_head(file)
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a dict
                one = opened.get_slice(name)
                yield Stored(name, tuple(one.get_shape()), str(one.get_dtype()), partial(_read, file, name))
    except OSError as error:
        raise os_cause(file, error) from error
    except SafetensorError as error:
        raise BrokenFile(f"{file} cannot be read as safetensors", brief(error), _AGAIN) from error


def _read(file: Path, name: str) -> Tensor:
    with safe_open(file, framework="pt") as opened:
        tensor: Tensor = opened.get_tensor(name)
    return tensor
