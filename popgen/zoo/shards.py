"""Shard files: safetensors with one matrix `weights` (n, p) each, one network a row.

A row is read without the rest of its file, a matrix as a whole; 50,000 small networks take a few dozen files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from popgen.errors import BrokenFile
from popgen.types import Flat

ROWS_BYTES = 64 * 2**20  # a shard this large is cheap to rewrite, and few are needed


def shard_name(fingerprint: str, sums: Sequence[str]) -> str:
    """The name, in a zoo's folder, of a shard whose rows have the hashes `sums`: the same rows, the same file."""
    return f"shards/{fingerprint}-{hashlib.sha256(''.join(sums).encode()).hexdigest()[:16]}.safetensors"


def read_rows(path: Path, rows: Sequence[int], size: int) -> Flat:
    """Some rows of a shard whose networks have `size` values.

    Raises:
        BrokenFile: the file is missing, is no shard, or has no such rows.
    """
    try:
        with safe_open(path, framework="pt") as file:
            part = file.get_slice("weights")
            shape = part.get_shape()
            if len(shape) != 2 or shape[1] != size or max(rows) >= shape[0]:
                raise BrokenFile(
                    f"{path} has a matrix of shape {tuple(shape)}", f"needed: (more than {max(rows)}, {size})", _RESTORE
                )
            if 4 * len(rows) > shape[0]:  # measured: above a quarter of the rows, reading all of them is faster
                return file.get_tensor("weights")[torch.tensor(rows)]
            return torch.cat([part[row : row + 1] for row in rows])
    except (OSError, SafetensorError) as error:
        raise BrokenFile(f"{path} cannot be read", str(error), _RESTORE) from error


_RESTORE = "Restore the file, or build the zoo again; `popgen zoo verify` lists what is damaged."
