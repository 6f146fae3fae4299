"""All writing to disk: atomic writes of files, safe file names, and folders that must be new or empty.

A file is written under a temporary name in its folder, synced, and renamed, so that a reader never sees part of it,
even if the writer is killed. All files get the permissions that the user's umask gives to any new file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from popgen.errors import BadInput


def write_bytes(path: Path, content: bytes) -> int:
    """Write a file atomically and return its size in bytes; a missing folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            size = file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return size


def write_text(path: Path, text: str) -> int:
    """Write a text file atomically as UTF-8 and return its size in bytes.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "note.txt"
    >>> write_text(file, "kept"), file.read_text()
    (4, 'kept')
    """
    return write_bytes(path, text.encode())


def append_text(path: Path, text: str) -> int:
    """Append text to a file, wait until it is on the disk, and return the number of bytes added."""
    content = text.encode()
    with path.open("ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return len(content)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """Write a safetensors file atomically, with `metadata` in its header, and return its path.

    safetensors' own `save_file` is not used, because its files have mode 0600 and so only their owner can read them.
    """
    plain = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(plain, None if metadata is None else dict(metadata)))
    return path


def safe_name(name: str) -> str:
    """Replace the characters of a name that some file systems refuse by dashes.

    >>> safe_name("cnn-s/digits/rotate:45")
    'cnn-s-digits-rotate-45'
    """
    return "".join(c if c.isalnum() or c in "-+._" else "-" for c in name)


def check_empty(folder: Path, kind: str, todo: str = "Choose another --out.") -> None:
    """Refuse a folder that is not empty; a folder that does not exist is fine.

    Args:
        kind: what will be written there, for the message: "a generator", "a zoo".
        todo: the advice in the message.

    Raises:
        BadInput: the folder is not empty, or is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} is not an empty folder", f"{kind} needs one of its own", todo)


def new_folder(out: str | None, default: Path, kind: str, marker: str) -> Path:
    """Create the folder `out`, or the first of `default`, `default`-2, `default`-3, ... that does not exist.

    Args:
        kind: what will be written there, for the message: "run" or "sweep".
        marker: name of a file that every folder of this kind has.

    Raises:
        BadInput: `out` already holds a run or sweep, or other files.
    """
    if out is None:
        path, number = default, 2
        while path.exists():
            path, number = default.with_name(f"{default.name}-{number}"), number + 1
    else:
        path = Path(out)
        if (path / marker).exists():
            raise BadInput(
                f"{path} holds a {kind} already",
                f"a {kind} is never overwritten",
                f"Continue it with --resume {path}, or choose another --out.",
            )
        check_empty(path, f"a {kind}")
    path.mkdir(parents=True, exist_ok=True)
    return path
