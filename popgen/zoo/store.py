"""Zoo: a folder of checkpoints.

    zoo.json                 name, format, licence, and the spec that it was built from
    index.jsonl              one Checkpoint on each line; new lines are appended
    shards/*.safetensors     the weights; a shard has a matrix of networks of one architecture
    references.safetensors   start, reference and scale of each architecture, written by `finalize`

A shard is written before the index lines that name it, so a zoo remains readable if a write is cut off.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from popgen import __version__
from popgen.archs import ArchSpec
from popgen.errors import BadInput, CannotResume, NotFound, near_matches, unknown_name
from popgen.files import check_empty, write_tensors, write_text
from popgen.refs import asset, asset_names, inside
from popgen.types import Flat, StateDict
from popgen.zoo.index import FORMAT, append_index, read_index, read_info, write_index
from popgen.zoo.record import Checkpoint, weights_sha256
from popgen.zoo.references import fit_reference, read_references, write_references
from popgen.zoo.shards import SHARD_BYTES, read_rows, shard_name
from popgen.zoo.verify import find_problems


class Zoo:
    """Checkpoints in a folder; reading never changes the folder.

    Attributes:
        folder: the zoo's folder.
        info: the content of zoo.json.
        records: all checkpoints, in the order of the index.

    >>> import tempfile
    >>> from popgen.archs import arch_config, build
    >>> zoo = Zoo.create(tempfile.mkdtemp(), "tiny")
    >>> record = Checkpoint(id="a", arch="mlp-s", arch_config=arch_config("mlp-s"), data="digits", lineage="a")
    >>> zoo.add([(record, build("mlp-s").state_dict())])
    >>> [r.id for r in Zoo.open(zoo.folder).select(arch="mlp-s")]
    ['a']
    """

    def __init__(self, folder: Path, info: dict[str, Any], records: list[Checkpoint], size: int) -> None:
        self.folder, self.info = folder, info
        self._specs: dict[str, ArchSpec] = {}
        self._set_records(records, size)

    @classmethod
    def create(
        cls, folder: Path | str, name: str, *, licence: str = "unknown", spec: dict[str, Any] | None = None
    ) -> Zoo:
        """Create an empty zoo.

        Raises:
            BadInput: the folder is not empty.
        """
        folder = Path(folder)
        check_empty(folder, "a zoo", "Name another folder, or open this one.")
        folder.mkdir(parents=True, exist_ok=True)
        info = {
            "name": name,
            "format": FORMAT,
            "licence": licence,
            "created_with": f"popgen {__version__}",
            "spec": spec,
        }
        write_index(folder / "index.jsonl", [])
        write_text(folder / "zoo.json", json.dumps(info, indent=1) + "\n")
        return cls(folder, info, [], 0)

    @classmethod
    def open(cls, folder_or_name: Path | str) -> Zoo:
        """Open a zoo by its folder, or by the name of one that comes with the package.

        Raises:
            NotFound: there is no such zoo.
            BrokenFile: its zoo.json or index cannot be read.
        """
        folder = Path(folder_or_name)
        if not (folder / "zoo.json").is_file():
            packaged = asset("zoos", str(folder_or_name))
            if packaged is None:
                beside = [str(p.parent) for p in Path().glob("zoos/*/zoo.json")]
                known = near_matches(str(folder_or_name), [*asset_names("zoos"), *beside])
                why = f"no zoo.json in that folder, and no packaged zoo of that name; known: {known}"
                raise NotFound(f"there is no zoo {str(folder_or_name)!r}", why, "popgen zoo build SPEC.yaml makes one.")
            folder = packaged
        return cls(folder, read_info(folder / "zoo.json"), *read_index(folder / "index.jsonl"))

    @property
    def name(self) -> str:
        return str(self.info["name"])

    @property
    def archs(self) -> list[str]:
        """Names of the architectures, in order of appearance."""
        return list(self._config_of)

    @property
    def data(self) -> list[str]:
        """Names of the data sets, in order of appearance."""
        return list(dict.fromkeys(r.data for r in self.records))

    @property
    def sha256(self) -> str:
        """A hash of all records, which include the hashes of the weights; independent of their order and of the shards."""
        lines = sorted(r.content() for r in self.records)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def is_torn(self) -> bool:
        """Whether the index ends in a line whose writing was cut off."""
        return self._index.stat().st_size > self._size

    @property
    def is_final(self) -> bool:
        """Whether `finalize` has run since the last change."""
        return self._references[1] == self.sha256

    def __len__(self) -> int:
        return len(self.records)

    def __contains__(self, checkpoint_id: str) -> bool:
        return checkpoint_id in self._by_id

    def record(self, checkpoint_id: str) -> Checkpoint:
        """Return the record with that id.

        Raises:
            NotFound: no such checkpoint; the message lists the nearest ids.
        """
        if checkpoint_id not in self._by_id:
            raise unknown_name("checkpoint", checkpoint_id, self._by_id, f"popgen zoo list {self.folder} lists them.")
        return self._by_id[checkpoint_id]

    def select(
        self, arch: str | None = None, data: str | None = None, held_out: bool | None = None, seed: int | None = None
    ) -> list[Checkpoint]:
        """Return the records that match all given values."""
        wanted = {
            k: v for k, v in {"arch": arch, "data": data, "held_out": held_out, "seed": seed}.items() if v is not None
        }
        return [r for r in self.records if all(getattr(r, k) == v for k, v in wanted.items())]

    def spec(self, arch: str) -> ArchSpec:
        """Return the ArchSpec of one of the zoo's architectures.

        Raises:
            NotFound: the zoo has no such architecture.
        """
        if arch not in self._config_of:
            raise unknown_name("architecture", arch, self._config_of, f"These are the ones in the zoo {self.name}.")
        if arch not in self._specs:
            self._specs[arch] = ArchSpec.from_config(self._config_of[arch])
        return self._specs[arch]

    def state(self, record: Checkpoint) -> StateDict:
        """Read the weights of one checkpoint as a state dict; other rows of its shard are not read."""
        return self.spec(record.arch).to_state(self.matrix([record])[0])

    def matrix(self, records: Sequence[Checkpoint]) -> Flat:
        """Read the weights (n, p) of checkpoints of one architecture, in the given order.

        Raises:
            BadInput: no records, or records of several architectures.
            BrokenFile: a shard cannot be read.
        """
        prints = {r.fingerprint for r in records}
        if len(prints) != 1:
            names = sorted({r.arch for r in records})
            raise BadInput(
                f"a matrix of {len(records)} checkpoints of {names}",
                "one architecture is needed",
                "Use zoo.select(arch=...).",
            )
        size = self.spec(records[0].arch).size
        out = torch.empty(len(records), size)
        by_shard = defaultdict(list)
        for index, record in enumerate(records):
            by_shard[record.shard].append(index)
        for shard, indices in by_shard.items():
            out[indices] = read_rows(inside(self.folder, shard), [records[i].row for i in indices], size)
        return out

    def _chunks(self, records: Sequence[Checkpoint]) -> Iterator[Flat]:
        """Yield the matrix of records in chunks of at most SHARD_BYTES, in their order."""
        step = max(1, SHARD_BYTES // (4 * self.spec(records[0].arch).size))
        for first in range(0, len(records), step):
            yield self.matrix(records[first : first + step])

    def reference(self, arch: str) -> Tensor:
        """Return the weights (p,) that differences are taken from: the shared start, or the mean of the checkpoints."""
        return self._reference_tensor(arch, "reference")

    def scales(self, arch: str) -> Tensor:
        """Return the scale (p,) of those differences, equal within a tensor, as `popgen.weights.Scaling` defines it."""
        return self._reference_tensor(arch, "scale")

    def start(self, arch: str) -> Tensor | None:
        """Return the start (p,) that all networks of an architecture share, or None."""
        return self._references[0].get(f"{arch}/start")

    def set_starts(self, starts: dict[str, Tensor]) -> None:
        """Record the start (p,) that all networks of an architecture share."""
        starts = {f"{arch}/start": flat for arch, flat in starts.items()}
        self._replace_references({**self._references[0], **starts})

    def add(self, networks: Iterable[tuple[Checkpoint, Tensor | StateDict]]) -> None:
        """Add checkpoints, given as flat vectors (p,) or state dicts: one shard for each architecture, then the index lines.

        Raises:
            BadInput: an id occurs twice, weights do not fit, or an architecture's name has another configuration.
        """
        groups: dict[str, list[tuple[Checkpoint, Tensor]]] = defaultdict(list)
        seen, configs = set(self._by_id), dict(self._config_of)
        for record, weights in networks:
            if record.id in seen:
                what = f"checkpoint {record.id!r} is already in the zoo {self.folder}"
                raise BadInput(what, "ids are unique", "Give it another id.")
            if configs.setdefault(record.arch, record.arch_config) != record.arch_config:
                raise BadInput(
                    f"{record.id!r}: the zoo {self.folder} knows {record.arch!r} with another configuration",
                    f"there {configs[record.arch]}, here {record.arch_config}",
                    "Give this architecture a name of its own (popgen zoo import --as NAME).",
                )
            seen.add(record.id)
            if record.arch not in self._specs:
                self._specs[record.arch] = ArchSpec.from_config(record.arch_config)
            spec = self._specs[record.arch]
            flat = _checked_flat(spec, weights, record.id)
            made_with = record.created_with or f"popgen {__version__}"
            known = {"fingerprint": spec.fingerprint, "sha256": weights_sha256(flat), "created_with": made_with}
            groups[spec.fingerprint].append((record.model_copy(update=known), flat))
        placed = [
            r for group in groups.values() for r in self._write_shard([r for r, _ in group], [w for _, w in group])
        ]
        self._guard()
        size = self._size + append_index(self._index, placed)
        self._set_records(self.records + placed, size)

    def drop(self, ids: Collection[str]) -> None:
        """Remove checkpoints from the index; `finalize` removes their weights."""
        self._guard()
        records = [r for r in self.records if r.id not in ids]
        self._set_records(records, write_index(self._index, records))

    def finalize(self) -> None:
        """Sort the index by id, merge small shards, and compute references and scales from checkpoints not held out.

        The files then depend only on the checkpoints, not on the order in which they were added.
        """
        self._guard()
        placed = []
        for group in _by_fingerprint(sorted(self.records, key=lambda r: r.id)):
            rows = max(1, SHARD_BYTES // (4 * self.spec(group[0].arch).size))
            for i in range(0, len(group), rows):
                shard = group[i : i + rows]
                name = shard_name(shard[0].fingerprint, [r.sha256 for r in shard])
                is_written = all((r.shard, r.row) == (name, row) for row, r in enumerate(shard))
                placed += shard if is_written else self._write_shard(shard, self.matrix(shard))
        placed.sort(key=lambda r: r.id)
        self._set_records(placed, write_index(self._index, placed))
        used = {r.shard for r in placed}
        for path in (self.folder / "shards").glob("*"):
            if f"shards/{path.name}" not in used:
                path.unlink()
        references: dict[str, Tensor] = {}
        for arch in self.archs:
            records = self.select(arch, held_out=False) or self.select(arch)
            fitted = fit_reference(self.spec(arch), partial(self._chunks, records), self.start(arch))
            references |= {f"{arch}/{what}": flat for what, flat in fitted.items()}
        self._replace_references(references, self.sha256)

    def verify(self) -> list[str]:
        """Return the problems of the folder, one line each: damaged weights, duplicates, outdated references."""
        return find_problems(self)

    @property
    def _index(self) -> Path:
        return self.folder / "index.jsonl"

    def _set_records(self, records: list[Checkpoint], size: int) -> None:
        self.records = records
        self._size = size  # bytes of the index that hold the records
        self._by_id = {r.id: r for r in records}
        self._config_of = {r.arch: r.arch_config for r in records}

    def _guard(self) -> None:
        """Prepare a write: remove an incomplete last line, and refuse if another process has added records."""
        if self.is_torn:
            tail = self._index.read_bytes()[self._size :]
            if b"\n" in tail:
                lines = tail.count(b"\n")
                what = f"the zoo {self.folder} was changed by another process ({lines} more checkpoints)"
                raise CannotResume(
                    what, "one process at a time may add to a zoo", "Wait for the other one, then start again."
                )
            write_index(self._index, self.records)

    def _write_shard(self, records: list[Checkpoint], weights: Iterable[Tensor]) -> list[Checkpoint]:
        name = shard_name(records[0].fingerprint, [r.sha256 for r in records])
        write_tensors(self.folder / name, {"weights": torch.stack(list(weights))})
        return [r.model_copy(update={"shard": name, "row": row}) for row, r in enumerate(records)]

    @cached_property
    def _references(self) -> tuple[dict[str, Tensor], str]:
        return read_references(self.folder)

    def _reference_tensor(self, arch: str, what: str) -> Tensor:
        self.spec(arch)
        tensors = self._references[0]
        if f"{arch}/{what}" not in tensors:
            why = "it is not finished: its build was interrupted, or networks were added"
            raise BadInput(
                f"the zoo {self.folder} has no {what} for {arch!r}", why, "Run its build again, or zoo.finalize()."
            )
        return tensors[f"{arch}/{what}"]

    def _replace_references(self, tensors: dict[str, Tensor], zoo_sha256: str = "") -> None:
        write_references(self.folder, tensors, zoo_sha256)
        self.__dict__.pop("_references", None)


def _by_fingerprint(records: Iterable[Checkpoint]) -> Iterable[list[Checkpoint]]:
    groups: dict[str, list[Checkpoint]] = defaultdict(list)
    for record in records:
        groups[record.fingerprint].append(record)
    return groups.values()


def _checked_flat(spec: ArchSpec, weights: Tensor | StateDict, where: str) -> Tensor:
    if isinstance(weights, Tensor):
        if weights.shape != (spec.size,):
            raise BadInput(
                f"{where}: weights of shape {tuple(weights.shape)}",
                f"{spec.name!r} has ({spec.size},)",
                "Use ArchSpec.to_flat.",
            )
        weights = spec.to_state(weights)
    spec.check(weights, where)
    return spec.to_flat(weights).cpu()
