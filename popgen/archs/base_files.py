"""A frozen base, of adapters or of a language model's layers, is known by its name and by a hash of its files, which stay where they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from popgen.errors import BadInput

_DECISIVE = ("*.safetensors", "config.json", "tokenizer*.json", "vocab*", "merges.txt", "special_tokens_map.json")


def decisive_files(folder: Path) -> list[Path]:
    """Return the files that decide what a base in transformers' format computes."""
    return sorted({path for pattern in _DECISIVE for path in folder.glob(pattern)})


def files_sha256(files: Iterable[Path]) -> str:
    """Return the hash of files' names and contents."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\n".encode())
        with file.open("rb") as opened:
            while piece := opened.read(1 << 24):
                digest.update(piece)
    return digest.hexdigest()


def check_same_base(name: str, found: str, recorded: str, made: str) -> None:
    """Refuse a base whose files are not those that something was made with; an empty hash is not known.

    Args:
        found: hash of the files that are here.
        recorded: hash of those that it was made with.
        made: what was made, such as "the adapter".

    Raises:
        BadInput: they are not.
    """
    if recorded and found and found != recorded:
        raise BadInput(
            f"the base {name!r} is not the one that {made} was made with",
            f"the hash of its files is {found[:12]}..., not {recorded[:12]}...",
            "Name the folder of that base.",
        )
