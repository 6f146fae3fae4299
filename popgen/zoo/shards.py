"""Shard files: safetensors files that hold one matrix `weights` (n, p), whose rows are networks of one architecture. Those of archives are coded.

Single rows can be read without the rest of the file. A zoo of 50,000 small networks takes a few dozen shards at most.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from popgen.errors import BrokenFile
from popgen.types import Flat
from popgen.zoo.archive.coded import CodedShard, is_coded

_RESTORE = "Restore the file, or build the zoo again; `popgen zoo verify` lists what is damaged."
SHARD_BYTES = 64 * 2**20  # Largest size of a shard: small enough to rewrite quickly, large enough that few are needed.


def shard_name(fingerprint: str, hashes: Sequence[str]) -> str:
    """Path of a shard in its zoo's folder. It is made from the hashes of the rows, so equal shards have equal names.

    Args:
        fingerprint: fingerprint of the architecture.
        hashes: sha256 of each row, in order.
    """
    return f"shards/{fingerprint}-{hashlib.sha256(''.join(hashes).encode()).hexdigest()[:16]}.safetensors"


def read_rows(path: Path, rows: Sequence[int], size: int) -> Flat:
    """The given rows of a shard, in that order; shape (len(rows), size).

    Args:
        rows: indices of rows; not empty.
        size: number of values of a network, which the shard has to agree with.

    Raises:
        BrokenFile: the file is missing, is not a shard of such networks, or has fewer rows.
    """
    try:
        with safe_open(path, framework="pt") as file:
            if is_coded(file):
                return CodedShard(file, path).rows(rows, size)
            matrix = file.get_slice("weights")
            shape = matrix.get_shape()
            if len(shape) != 2 or shape[1] != size or max(rows) >= shape[0]:
                raise BrokenFile(
                    f"{path} has a matrix of shape {tuple(shape)}", f"needed: (more than {max(rows)}, {size})", _RESTORE
                )
            if (
                4 * len(rows) > shape[0]
            ):  # Above a quarter of the rows, reading the whole matrix was measured to be faster.
                return file.get_tensor("weights")[torch.tensor(rows)]
            return torch.cat([matrix[row : row + 1] for row in rows])
    except (OSError, SafetensorError) as error:
        raise BrokenFile(f"{path} cannot be read", str(error), _RESTORE) from error
