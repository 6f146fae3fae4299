"""Starts, bases, references and scales of an archive: the first two are read from its shards, the others fitted when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor

from popgen.refs import inside
from popgen.types import Flat
from popgen.zoo.archive.coded import BASE, START, open_coded
from popgen.zoo.record import Checkpoint
from popgen.zoo.references import fit_reference

if TYPE_CHECKING:
    from popgen.zoo.store import Zoo

_ROWS = 64  # checkpoints that are decoded at once
_STORED, _FITTED = {"start": (START,), "base": (BASE, START)}, ("reference", "scale")


class ArchivedReferences(Mapping[str, Tensor]):
    """What references.safetensors holds of another zoo, by the same keys ARCH/start, ARCH/base, ARCH/reference and ARCH/scale."""

    def __init__(self, zoo: Zoo) -> None:
        self._zoo, self._known = zoo, dict[str, Tensor | None]()

    def __getitem__(self, key: str) -> Tensor:
        arch, _, kind = key.rpartition("/")
        if key not in self._known:
            self._known |= self._fit(arch) if kind in _FITTED else {key: self._read(arch, kind)}
        found = self._known[key]
        if found is None:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[str]:
        return (key for arch in self._zoo.archs for kind in (*_STORED, *_FITTED) if (key := f"{arch}/{kind}") in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        """For each architecture the names under which the zoo had a start and a base."""
        return dict(self._zoo.info["archive"].get("references", {}))

    def _read(self, arch: str, kind: str) -> Tensor | None:
        if kind not in self._names.get(arch, []):
            return None
        with open_coded(inside(self._zoo.folder, self._zoo.select(arch=arch)[0].shard)) as shard:
            names = [name for name in _STORED[kind] if name in shard.names]
            return shard.base(names[0], self._zoo.spec(arch).size) if names else None

    def _fit(self, arch: str) -> dict[str, Tensor | None]:
        records = self._zoo.select(arch, held_out=False) or self._zoo.select(arch)
        fitted = fit_reference(self._zoo.spec(arch), lambda: self._chunks(records), self._zoo.start(arch))
        return {f"{arch}/{kind}": flat for kind, flat in fitted.items() if kind in _FITTED}

    def _chunks(self, records: Sequence[Checkpoint]) -> Iterator[Flat]:
        for first in range(0, len(records), _ROWS):
            yield self._zoo.matrix(records[first : first + _ROWS])


def archived_references(zoo: Zoo) -> tuple[ArchivedReferences, str]:
    """The references of an archive, and the sha256 of its checkpoints when it was made."""
    return ArchivedReferences(zoo), str(zoo.info["archive"].get("sha256", ""))
