"""Reads the content of a checkpoint file that popgen did not write, without running code.

Only this module calls `torch.load`, with weights_only=True: a file that wants to run code is refused, and none of its
code runs. Whatever a library raises on a hostile file becomes an error of popgen. Everything else that popgen reads is
safetensors.
"""

from __future__ import annotations

import mmap
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from popgen.errors import BadInput, BrokenFile, PopgenError, brief
from popgen.json_text import parse_json
from popgen.refs import inside
from popgen.zoo.imports.causes import ZIP, check_head, os_cause
from popgen.zoo.imports.limits import check_archive, check_legacy

INDEX_SUFFIXES = (".safetensors.index.json", ".bin.index.json")  # a checkpoint in several files, its shards


class _Skipped:
    """Stands for an object beside the weights, such as an array or the arguments of a script; it keeps nothing of it."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def _skip(*_: object) -> _Skipped:
    return _Skipped()


class _NumberType:
    """Stands for numpy.dtype, whose own __setstate__ reads memory that is not its own if its state is damaged."""

    def __init__(self, name: object = "", *_: object) -> None:
        self.name, self.order = name, "="

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.order = state[1]

    def read(self, content: object) -> object:
        """The NumPy number with these bytes; what is no number is skipped."""
        if isinstance(self.name, str) and isinstance(content, bytes) and _NUMBER.fullmatch(self.name):
            try:
                return np.frombuffer(content, np.dtype(self.order + self.name))[0]
            except (ValueError, TypeError, IndexError):  # other sizes than the type's, or a type that does not exist
                return _Skipped()
        return _Skipped()


def _number(kind: object = None, content: object = None, *_: object) -> object:
    return kind.read(content) if isinstance(kind, _NumberType) else _Skipped()


_NUMBER = re.compile(r"[biufc](1|2|4|8|16)")  # names of NumPy's types of numbers
# Training scripts store their best accuracy as a NumPy number, and other things beside the weights. Numbers are read;
# arrays, paths and arguments are replaced by objects that hold nothing, so that no code of theirs runs.
_SAFE_GLOBALS: list[Any] = [
    (_number, "numpy.core.multiarray.scalar"),
    (_number, "numpy._core.multiarray.scalar"),
    (_NumberType, "numpy.dtype"),
    *((_skip, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    (_skip, "numpy._core.numeric._frombuffer"),
    *((_Skipped, name) for name in ("numpy.ndarray", "argparse.Namespace")),
    *((_Skipped, f"pathlib.{name}") for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath")),
]


def read_content(path: Path) -> Any:
    """Content of a checkpoint file, or of all shards that an index in JSON names, read without running code.

    Raises:
        BrokenFile: the file cannot be read, is truncated, not a checkpoint, or a pickle that wants to run code.
        BadInput: it has the suffix of another format, holds quantised tensors, or its index names a file outside its
            folder.
    """
    if path.name.lower().endswith(INDEX_SUFFIXES):
        return _read_shards(path)
    try:
        head = check_head(path)
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        return _load(path, head)
    except PopgenError:
        raise
    except pickle.UnpicklingError as error:
        raise _unpickling_error(path, str(error)) from error
    except OSError as error:
        raise os_cause(path, error) from error
    except zipfile.BadZipFile as error:
        raise BrokenFile(
            f"{path} is cut off or damaged ({path.stat().st_size} bytes)",
            f"it begins as a PyTorch file, and the list at its end is missing or wrong: {error}",
            "Download it again.",
        ) from error
    except Exception as error:  # A hostile file makes torch, safetensors and zipfile raise nearly any class of error.
        if "Invalid magic number" in str(error):
            todo = "Save it with torch.save(model.state_dict(), FILE) or as .safetensors."
            raise BrokenFile(f"{path} is a plain pickle, not a checkpoint", "pickle.dump wrote it", todo) from error
        raise BrokenFile(
            f"{path} is truncated or not a checkpoint ({path.stat().st_size} bytes)",
            brief(error) if str(error) else f"{type(error).__name__}: it ends too early",
            "Download it again, and check that it is a file of weights.",
        ) from error


def _load(path: Path, head: bytes) -> Any:
    """Content of a file of PyTorch's, in the present format (a zip archive) or the older one (pickles)."""
    if head.startswith(ZIP):
        check_archive(path)
        return _load_safely(path)
    # A file that is mapped to memory never gives more bytes than it has, whatever length a header claims.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        check_legacy(mapped, path)  # type: ignore[arg-type]
        mapped.seek(0)
        return _load_safely(mapped)


def _load_safely(path: Path | mmap.mmap) -> Any:
    with warnings.catch_warnings(), torch.serialization.safe_globals(_SAFE_GLOBALS):
        warnings.simplefilter("ignore")  # torch warns about the pickle protocol before it raises.
        return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[arg-type]


def _read_shards(path: Path) -> dict[str, Any]:
    """All tensors of the shards that an index in JSON names.

    Raises:
        BrokenFile: the index is not one, or a shard cannot be read or lacks a tensor.
        BadInput: the index names a file outside its folder.
    """
    try:
        weight_map = parse_json(path.read_bytes())["weight_map"]
        shards = sorted(set(weight_map.values()))
        names = {shard: [name for name, where in weight_map.items() if where == shard] for shard in shards}
        paths = {shard: inside(path.parent, shard) for shard in shards}
        missing = [shard for shard in shards if not paths[shard].is_file()]
    except PopgenError:
        raise
    except OSError as error:
        raise os_cause(path, error) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BrokenFile(
            f"{path} is not the index of a sharded checkpoint", brief(error), "It maps names to files: weight_map."
        ) from error
    if missing:
        what = f"{path} names {len(shards)} shards, of which {len(missing)} are not there"
        raise BrokenFile(what, ", ".join(missing[:4]), "Download them into its folder.")
    tensors: dict[str, Any] = {}
    for shard in shards:
        if str(paths[shard]).lower().endswith(INDEX_SUFFIXES):
            raise BadInput(f"{path} names an index as a shard", shard, "Shards are files of tensors.")
        content = read_content(paths[shard])
        lacking = [name for name in names[shard] if not isinstance(content, dict) or name not in content]
        if lacking:
            raise BrokenFile(f"{paths[shard]} lacks tensors of its index", ", ".join(lacking[:4]), "Download it again.")
        tensors |= {name: content[name] for name in names[shard]}
    return tensors


def _unpickling_error(path: Path, message: str) -> PopgenError:
    """The error for a pickle that torch refuses with `message`, which names the first global that is not allowed."""
    wanted = re.search(r"GLOBAL ([\w.]+)", message)
    if wanted is None:
        why = (
            re.sub(r".*WeightsUnpickler error:|Check the documentation.*", "", message, flags=re.DOTALL).strip()
            or "not a state dict"
        )
        return BrokenFile(
            f"{path} is not a checkpoint of plain tensors",
            " ".join(why.split())[:300],
            "Save it with torch.save(model.state_dict(), FILE) or as .safetensors.",
        )
    return BrokenFile(
        f"{path} is refused: its pickle asks for {wanted[1]}, which is not a tensor",
        "unpickling that could run any code; nothing of it was run",
        "If you trust its source, load it there and save model.state_dict() as .safetensors.",
    )
