"""Shard files: safetensors with one matrix `weights` (n, p), which has one network in each row.

Single rows can be read without the rest of the file. A zoo of 50,000 small networks has a few dozen shards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from popgen.errors import BrokenFile
from popgen.types import Flat

_RESTORE = "Restore the file, or build the zoo again; `popgen zoo verify` lists what is damaged."
SHARD_BYTES = 64 * 2**20  # largest size of a shard: small enough to rewrite quickly, large enough that few are needed


def shard_name(fingerprint: str, sums: Sequence[str]) -> str:
    """Return the file name, in a zoo's folder, of a shard whose rows have the hashes `sums`."""
    return f"shards/{fingerprint}-{hashlib.sha256(''.join(sums).encode()).hexdigest()[:16]}.safetensors"


def read_rows(path: Path, rows: Sequence[int], size: int) -> Flat:
    """Read some rows of a shard whose networks have `size` values.

    Raises:
        BrokenFile: the file is missing, is not a shard, or lacks one of the rows.
    """
    try:
        with safe_open(path, framework="pt") as file:
            matrix = file.get_slice("weights")
            shape = matrix.get_shape()
            if len(shape) != 2 or shape[1] != size or max(rows) >= shape[0]:
                raise BrokenFile(
                    f"{path} has a matrix of shape {tuple(shape)}", f"needed: (more than {max(rows)}, {size})", _RESTORE
                )
            if 4 * len(rows) > shape[0]:  # Reading all rows was measured to be faster above a quarter of them.
                return file.get_tensor("weights")[torch.tensor(rows)]
            return torch.cat([matrix[row : row + 1] for row in rows])
    except (OSError, SafetensorError) as error:
        raise BrokenFile(f"{path} cannot be read", str(error), _RESTORE) from error
