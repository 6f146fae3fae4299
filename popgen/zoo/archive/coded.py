"""Coded shards: safetensors files that hold networks of one architecture as bytes, each written by one of the codecs.

    payload  uint8 (bytes,)      the networks, one after another
    ends     int64 (m,)          where each of them ends
    codecs   uint8 (m,)          which of the codecs in the metadata wrote each
    bases    int32 (m,)          the network from which each is a difference, by its number, or -1

The first networks are the bases, which are differences from nothing; their names are in the metadata. The metadata hold the layout, too, so
that a shard is read without knowing its architecture. Single networks are read without the rest of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from popgen.errors import BrokenFile
from popgen.files import write_tensors
from popgen.json_text import json_text, parse_json
from popgen.types import Flat
from popgen.zoo.archive.codecs.codec import Codec, Values
from popgen.zoo.archive.codecs.layout import Layout
from popgen.zoo.archive.codecs.table import CODECS
from popgen.zoo.archive.generated import GENERATED, codecs_of

FORMAT = "popgen coded shard 1"
START, BASE = "start", "base"  # names of the bases that every zoo may have
_SLACK = 256  # bytes by which numbers in the header may grow
_RESTORE = "Restore the file, or make the archive again from the zoo; `popgen zoo verify` lists what is damaged."


@dataclass(frozen=True)
class CodedNetwork:
    """One network as bytes."""

    codec: str
    base: int  # number of the base, or -1
    packed: bytes

    def decode(
        self, layout: Layout, bases: Sequence[Values] | Mapping[int, Values], codecs: Mapping[str, Codec] = CODECS
    ) -> Values:
        """The network (p,)."""
        return codecs[self.codec].decode(layout, self.packed, None if self.base < 0 else bases[self.base])


def write_coded(
    path: Path, layout: Layout, bases: Mapping[str, CodedNetwork], networks: Sequence[CodedNetwork], arch: str = ""
) -> int:
    """Write a coded shard and return its size in bytes. Network i is its row len(bases) + i.

    Args:
        arch: the architecture's name in the archive's generator, if networks are written as its codes.
    """
    tensors, metadata = _content(layout, bases, networks)
    write_tensors(path, tensors, metadata | ({"arch": arch} if arch else {}))
    return path.stat().st_size


def overhead(layout: Layout, bases: Mapping[str, CodedNetwork], networks: int) -> int:
    """The most bytes that the lists and names of a coded shard take beside the networks themselves."""
    every = [CodedNetwork(name, -1, b"") for name in CODECS]
    empty = (every * (networks // len(every) + 1))[:networks]
    named = {name: CodedNetwork("lossless", -1, b"") for name in bases}
    return len(save(*_content(layout, named, empty))) + _SLACK


def _content(
    layout: Layout, bases: Mapping[str, CodedNetwork], networks: Sequence[CodedNetwork]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a coded shard."""
    every = [*bases.values(), *networks]
    names = list(dict.fromkeys(one.codec for one in every))
    content = np.frombuffer(b"".join(one.packed for one in every), dtype=np.uint8).copy()
    tensors = {
        "payload": torch.from_numpy(content),
        "ends": torch.tensor([len(one.packed) for one in every], dtype=torch.int64).cumsum(0),
        "codecs": torch.tensor([names.index(one.codec) for one in every], dtype=torch.uint8),
        "bases": torch.tensor([one.base for one in every], dtype=torch.int32),
    }
    metadata = {"format": FORMAT, "layout": layout.to_json(), "codecs": json_text(names), "names": json_text([*bases])}
    return tensors, metadata


class CodedShard:
    """A coded shard that is open for reading. Its sizes are checked before anything of the network's size is allocated.

    Args:
        file: the open safetensors file.
        path: its path, for errors.

    Raises:
        BrokenFile: the file is no coded shard that this version reads; so do the methods.
    """

    def __init__(self, file: Any, path: Path) -> None:
        self._file, self._path = file, path
        metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise self._broken(f"its format is {metadata.get('format')!r}, needed {FORMAT!r}", "Update popgen.")
        try:
            self.layout = Layout.from_json(parse_json(metadata["layout"]))
            self._codecs, self.names = _texts(metadata, "codecs"), _texts(metadata, "names")
            self._ends, self._codec_of, self._base_of = (self._numbers(name) for name in ("ends", "codecs", "bases"))
            self._check()
            self._arch = metadata["arch"] if GENERATED in self._codecs else ""
        except (KeyError, ValueError, SafetensorError) as error:
            raise self._broken(str(error)) from error

    def __len__(self) -> int:
        return len(self._ends)

    def base(self, name: str, size: int) -> Tensor | None:
        """The base (size,) of that name, or None if there is none."""
        return self.rows([self.names.index(name)], size)[0] if name in self.names else None

    def rows(self, rows: Sequence[int], size: int) -> Flat:
        """The given networks (len(rows), size), in that order."""
        if self.layout.size != size or max(rows) >= len(self):
            raise self._broken(
                f"it has {len(self)} networks of {self.layout.size} values, needed: more than {max(rows)} of {size}"
            )
        needed = {int(self._base_of[row]) for row in rows} - {-1}
        bases = {number: self._decode(number, {}) for number in needed}
        found = torch.empty(len(rows), size)
        for i, row in enumerate(rows):
            found[i] = torch.from_numpy(self._decode(row, bases))
        return found

    def network(self, row: int) -> CodedNetwork:
        """One network as its bytes."""
        begin = int(self._ends[row - 1]) if row else 0
        packed = self._file.get_slice("payload")[begin : int(self._ends[row])].numpy().tobytes()
        return CodedNetwork(self._codecs[int(self._codec_of[row])], int(self._base_of[row]), packed)

    def _decode(self, row: int, bases: Mapping[int, Values]) -> Values:
        try:
            network = self.network(row)
            codecs = codecs_of(self._path.parent.parent, self._arch) if network.codec == GENERATED else CODECS
            return network.decode(self.layout, bases, codecs)
        except (ValueError, SafetensorError) as error:
            raise self._broken(f"network {row}: {error}") from error

    def _numbers(self, name: str) -> NDArray[np.int64]:
        found = self._file.get_tensor(name)
        if found.dim() != 1 or found.is_floating_point():
            raise ValueError(f"{name} is no list of whole numbers")
        return found.numpy().astype(np.int64)

    def _check(self) -> None:
        payload = self._file.get_slice("payload")
        shape = payload.get_shape()
        if len(shape) != 1 or payload.get_dtype() != "U8":
            raise ValueError("its payload is no list of bytes")
        ends, number = self._ends, len(self.names)
        if not len(ends) == len(self._codec_of) == len(self._base_of) or number > len(ends):
            raise ValueError("its lists have different lengths")
        if len(ends) and (ends[0] < 0 or bool((np.diff(ends) < 0).any()) or ends[-1] != shape[0]):
            raise ValueError(f"the ends of its networks do not fit its {shape[0]} bytes")
        if bool((self._codec_of >= len(self._codecs)).any()):
            raise ValueError("it names a codec that is not in its list")
        if bool((self._base_of < -1).any() or (self._base_of >= number).any() or (self._base_of[:number] != -1).any()):
            raise ValueError("it names a base that is not there")
        unknown = [name for name in self._codecs if name not in (*CODECS, GENERATED)]
        if unknown:
            raise ValueError(f"its codec {unknown[0]!r} is not known; update popgen")

    def _broken(self, why: str, todo: str = _RESTORE) -> BrokenFile:
        return BrokenFile(f"{self._path} cannot be read", why, todo)


def is_coded(file: Any) -> bool:
    """Whether an open safetensors file is a coded shard of any version."""
    return str((file.metadata() or {}).get("format", "")).startswith("popgen coded shard")


@contextmanager
def open_coded(path: Path) -> Iterator[CodedShard]:
    """Open the coded shard in a file.

    Raises:
        BrokenFile: the file cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            yield CodedShard(file, path)
    except (OSError, SafetensorError) as error:
        raise BrokenFile(f"{path} cannot be read", str(error), _RESTORE) from error


def _texts(metadata: Mapping[str, str], name: str) -> list[str]:
    found = parse_json(metadata[name])
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError(f"its {name} are no list of names")
    return found
