"""Zoo: a folder of checkpoints.

    zoo.json                 name, format, licence, and the spec that the zoo was built from
    index.jsonl              one Checkpoint on each line; new lines are appended
    shards/*.safetensors     the weights: each shard holds one matrix, of networks of one architecture
    columns.json             what lists show of each checkpoint, see `popgen.zoo.columns`, written by `finalize`
    references.safetensors   start, reference and scale of each architecture, written by `finalize`
    README.md                the card, written by `finalize`; no hash depends on it

A shard is written before the index lines that point at it, so that an interrupted write leaves a readable zoo.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from popgen import __version__
from popgen.archs import ArchSpec
from popgen.archs.config import differences
from popgen.cards.make import keep_card
from popgen.errors import BadInput, CannotResume, unknown_name
from popgen.files import check_empty, write_tensors, write_text
from popgen.hub.kinds import ZOO
from popgen.json_text import json_text
from popgen.refs import inside
from popgen.types import Flat, StateDict
from popgen.zoo.archive.references import archived_references
from popgen.zoo.columns import write_columns
from popgen.zoo.index import append_index, read_index, write_index
from popgen.zoo.info import ARCHIVE_FORMAT, FORMAT, read_info
from popgen.zoo.names import zoo_folder
from popgen.zoo.record import Checkpoint, checked_flat, group_by, records_sha256, weights_sha256
from popgen.zoo.references import fit_reference, read_references, write_references
from popgen.zoo.shards import SHARD_BYTES, read_rows, shard_name
from popgen.zoo.verify import find_problems


class Zoo:
    """A folder of checkpoints; reading never changes the folder.

    Attributes:
        folder: the folder.
        info: the content of zoo.json.
        records: the record of every checkpoint, in the order of the index.

    >>> import tempfile
    >>> from popgen.archs import arch_config, build
    >>> zoo = Zoo.create(tempfile.mkdtemp(), "tiny")
    >>> record = Checkpoint(id="a", arch="mlp-s", arch_config=arch_config("mlp-s"), data="digits", lineage="a")
    >>> zoo.add([(record, build("mlp-s").state_dict())])
    >>> [r.id for r in Zoo.open(zoo.folder).select(arch="mlp-s")]
    ['a']
    """

    def __init__(self, folder: Path, info: dict[str, Any], records: list[Checkpoint], index_bytes: int) -> None:
        self.folder, self.info = folder, info
        self._specs: dict[str, ArchSpec] = {}
        self._sha256: str | None = None  # hash of the records, once it was asked for
        self._set_records(records, index_bytes)

    def __repr__(self) -> str:
        return (
            f"Zoo({self.name!r}, {len(self):,} checkpoints of {len(self.archs)} architectures in {str(self.folder)!r})"
        )

    @classmethod
    def create(
        cls, folder: Path | str, name: str, *, licence: str = "unknown", spec: dict[str, Any] | None = None
    ) -> Zoo:
        """Create an empty zoo.

        Args:
            folder: a new or empty folder.
            spec: content of the ZooSpec that the zoo is built from, if any; it is stored in zoo.json.

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
        write_text(folder / "zoo.json", json_text(info, indent=1) + "\n")
        return cls(folder, info, [], 0)

    @classmethod
    def open(cls, folder_or_name: Path | str) -> Zoo:
        """Open the zoo in a folder, the zoo of that name that the package ships, or hub:OWNER/NAME[@REVISION].

        Raises:
            NotFound: there is no such zoo.
            BrokenFile: its zoo.json or index cannot be read.
            BadInput: a record names a shard outside the folder.
            Offline: it is on the hub, which does not answer.
        """
        folder = zoo_folder(folder_or_name)
        return cls(folder, read_info(folder / "zoo.json"), *read_index(folder / "index.jsonl"))

    @property
    def name(self) -> str:
        """The zoo's name, as in zoo.json."""
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
        """SHA-256 of all records and, through the hashes in them, of all weights.

        It depends neither on the order of the records nor on how they are divided into shards.
        """
        self._sha256 = self._sha256 or records_sha256(self.records)
        return self._sha256

    @property
    def is_torn(self) -> bool:
        """Whether the index ends in an incomplete line, which an interrupted write leaves."""
        return self._index_path.stat().st_size > self._index_bytes

    @property
    def is_final(self) -> bool:
        """Whether `finalize` has run since the records last changed."""
        return self._references[1] == self.sha256

    @property
    def is_archive(self) -> bool:
        """Whether `popgen zoo archive` wrote it: its shards are coded, and it can only be read."""
        return self.info["format"] == ARCHIVE_FORMAT

    def __len__(self) -> int:
        return len(self.records)

    def __contains__(self, checkpoint_id: str) -> bool:
        return checkpoint_id in self._by_id

    def record(self, checkpoint_id: str) -> Checkpoint:
        """The record of the checkpoint with that id.

        Raises:
            NotFound: the zoo has no such checkpoint; the message names the nearest ids.
        """
        if checkpoint_id not in self._by_id:
            raise unknown_name("checkpoint", checkpoint_id, self._by_id, f"popgen zoo list {self.folder} lists them.")
        return self._by_id[checkpoint_id]

    def select(
        self, arch: str | None = None, data: str | None = None, held_out: bool | None = None, seed: int | None = None
    ) -> list[Checkpoint]:
        """The records whose fields equal every argument that is not None, in the order of the index."""
        arguments = {"arch": arch, "data": data, "held_out": held_out, "seed": seed}
        wanted = {field: value for field, value in arguments.items() if value is not None}
        return [r for r in self.records if all(getattr(r, field) == value for field, value in wanted.items())]

    def spec(self, arch: str) -> ArchSpec:
        """The ArchSpec of one of the zoo's architectures.

        Raises:
            NotFound: the zoo has no such architecture.
        """
        if arch not in self._config_of:
            raise unknown_name("architecture", arch, self._config_of, f"These are the ones in the zoo {self.name}.")
        if arch not in self._specs:
            self._specs[arch] = ArchSpec.from_config(self._config_of[arch])
        return self._specs[arch]

    def state(self, record: Checkpoint) -> StateDict:
        """The weights of one checkpoint as a state dict; only its row of the shard is read."""
        return self.spec(record.arch).to_state(self.matrix([record])[0])

    def matrix(self, records: Sequence[Checkpoint]) -> Flat:
        """The weights (n, p) of checkpoints of one architecture, in the order of `records`.

        Raises:
            BadInput: there are no records, or records of several architectures.
            BrokenFile: a shard cannot be read.
        """
        if len({r.fingerprint for r in records}) != 1:
            names = sorted({r.arch for r in records})
            raise BadInput(
                f"a matrix of {len(records)} checkpoints of {names}",
                "one architecture is needed",
                "Use zoo.select(arch=...).",
            )
        size = self.spec(records[0].arch).size
        matrix = torch.empty(len(records), size)
        by_shard = defaultdict(list)
        for i, record in enumerate(records):
            by_shard[record.shard].append(i)
        for shard, indices in by_shard.items():
            matrix[indices] = read_rows(inside(self.folder, shard), [records[i].row for i in indices], size)
        return matrix

    def _chunks(self, records: Sequence[Checkpoint]) -> Iterator[Flat]:
        """The matrix of `records` in chunks of consecutive rows, each of at most SHARD_BYTES."""
        most = self._rows_per_shard(records[0].arch)
        for first in range(0, len(records), most):
            yield self.matrix(records[first : first + most])

    def reference(self, arch: str) -> Tensor:
        """The weights (p,) that differences are taken from: the shared start, or else the mean of the checkpoints.

        Raises:
            NotFound: the zoo has no such architecture.
            BadInput: `finalize` has not run.
        """
        return self._reference_tensor(arch, "reference")

    def scales(self, arch: str) -> Tensor:
        """The scale (p,) of differences from the reference, one value for each tensor; see `popgen.weights.Scaling`.

        Raises:
            NotFound: the zoo has no such architecture.
            BadInput: `finalize` has not run.
        """
        return self._reference_tensor(arch, "scale")

    def start(self, arch: str) -> Tensor | None:
        """The start (p,) that all networks of an architecture share, or None if they do not share one."""
        return self._references[0].get(f"{arch}/start")

    def base(self, arch: str) -> Tensor | None:
        """The trained network (p,) that the shared start goes back to, or None if the start is no trained network.

        It is the start itself, or the network that the start was fine-tuned from.
        """
        return self._references[0].get(f"{arch}/base")

    def set_starts(self, starts: dict[str, Tensor], bases: dict[str, Tensor] | None = None) -> None:
        """Store the start (p,) that all networks of an architecture share, and its base, for each architecture in `starts`."""
        given = {f"{arch}/start": flat for arch, flat in starts.items()}
        given |= {
            f"{arch}/base": flat.clone() for arch, flat in (bases or {}).items()
        }  # the file refuses shared memory
        self._replace_references({**self._references[0], **given})

    def add(self, networks: Iterable[tuple[Checkpoint, Tensor | StateDict]]) -> None:
        """Add checkpoints, each a record and its weights: a flat vector (p,) or a state dict.

        One shard is written for each fingerprint, then the index lines. The fingerprint, sha256, shard and row of every
        record are filled in.

        Raises:
            BadInput: an id occurs twice, weights do not fit, or the name of an architecture has two configurations.
            CannotResume: another process has added checkpoints since this zoo was opened.
        """
        by_fingerprint: dict[str, list[tuple[Checkpoint, Tensor]]] = defaultdict(list)
        seen, configs = set(self._by_id), dict(self._config_of)
        for record, weights in networks:
            if record.id in seen:
                what = f"checkpoint {record.id!r} is already in the zoo {self.folder}"
                raise BadInput(what, "ids are unique", "Give it another id.")
            if configs.setdefault(record.arch, record.arch_config) != record.arch_config:
                raise BadInput(
                    f"{record.id!r}: the zoo {self.folder} knows {record.arch!r} with another configuration",
                    "; ".join(differences(record.arch_config, configs[record.arch])),
                    "Give this architecture a name of its own (popgen zoo import --as NAME).",
                )
            seen.add(record.id)
            if record.arch not in self._specs:
                self._specs[record.arch] = ArchSpec.from_config(record.arch_config)
            spec = self._specs[record.arch]
            flat = checked_flat(spec, weights, record.id)
            created_with = record.created_with or f"popgen {__version__}"
            filled = {"fingerprint": spec.fingerprint, "sha256": weights_sha256(flat), "created_with": created_with}
            by_fingerprint[spec.fingerprint].append((record.model_copy(update=filled), flat))
        stored: list[Checkpoint] = []
        self._prepare_write()
        for group in by_fingerprint.values():
            stored += self._write_shard([r for r, _ in group], [flat for _, flat in group])
        index_bytes = self._index_bytes + append_index(self._index_path, stored)
        self._set_records(self.records + stored, index_bytes)

    def drop(self, ids: Collection[str]) -> None:
        """Remove checkpoints from the index; their weights stay in the shards until `finalize` removes them."""
        self._prepare_write()
        records = [r for r in self.records if r.id not in ids]
        self._set_records(records, write_index(self._index_path, records))

    def finalize(self) -> None:
        """Sort the index by id, merge small shards, write the references and scales of all architectures, and the card.

        References and scales are fitted to the checkpoints that are not held out, or to all of an architecture whose
        checkpoints are all held out. The files then depend only on the checkpoints, not on the order in which they were
        added.
        """
        self._prepare_write()
        stored: list[Checkpoint] = []
        for records in group_by(sorted(self.records, key=lambda r: r.id), "fingerprint").values():
            most = self._rows_per_shard(records[0].arch)
            for first in range(0, len(records), most):
                stored += self._merge_shard(records[first : first + most])
        stored.sort(key=lambda r: r.id)
        self._set_records(stored, write_index(self._index_path, stored))
        write_columns(self.folder, stored)
        used = {r.shard for r in stored}
        for path in (self.folder / "shards").glob("*"):
            if f"shards/{path.name}" not in used:
                path.unlink()
        references: dict[str, Tensor] = {}
        for arch in self.archs:
            records = self.select(arch, held_out=False) or self.select(arch)
            fitted = fit_reference(self.spec(arch), partial(self._chunks, records), self.start(arch))
            references |= {f"{arch}/{kind}": flat for kind, flat in fitted.items()}
            base = self.base(arch)
            references |= {} if base is None else {f"{arch}/base": base}
        self._replace_references(references, self.sha256)
        if self.records:
            keep_card(self.folder, ZOO)

    def verify(self) -> list[str]:
        """Problems of the folder, one line each: damaged weights, duplicates, outdated references."""
        return find_problems(self)

    @property
    def _index_path(self) -> Path:
        return self.folder / "index.jsonl"

    def _rows_per_shard(self, arch: str) -> int:
        return max(1, SHARD_BYTES // (4 * self.spec(arch).size))

    def _set_records(self, records: list[Checkpoint], index_bytes: int) -> None:
        self.records = records
        self._sha256 = None
        self._index_bytes = index_bytes  # Size of the index up to its last complete line.
        self._by_id = {r.id: r for r in records}
        self._config_of = {r.arch: r.arch_config for r in records}

    def _prepare_write(self) -> None:
        """Remove an incomplete last line from the index; refuse to write if another process has added lines.

        Raises:
            BadInput: the zoo is an archive.
            CannotResume: another process has added checkpoints since this zoo was opened.
        """
        if self.is_archive:
            todo = "Change the zoo that it was made of, and archive that again."
            raise BadInput(f"the zoo {self.folder} is an archive", "archives can only be read", todo)
        if self.is_torn:
            tail = self._index_path.read_bytes()[self._index_bytes :]
            if b"\n" in tail:
                lines = tail.count(b"\n")
                what = f"the zoo {self.folder} was changed by another process ({lines} more checkpoints)"
                raise CannotResume(
                    what, "one process at a time may add to a zoo", "Wait for the other one, then start again."
                )
            write_index(self._index_path, self.records)

    def _merge_shard(self, records: list[Checkpoint]) -> list[Checkpoint]:
        """Store the weights of `records` as one shard, unless they are one already; returns the updated records."""
        name = shard_name(records[0].fingerprint, [r.sha256 for r in records])
        if all((r.shard, r.row) == (name, row) for row, r in enumerate(records)):
            return records
        return self._write_shard(records, self.matrix(records))

    def _write_shard(self, records: list[Checkpoint], weights: Iterable[Tensor]) -> list[Checkpoint]:
        """Write a shard whose rows are `weights`, and return the records with their shard and row filled in."""
        name = shard_name(records[0].fingerprint, [r.sha256 for r in records])
        write_tensors(self.folder / name, {"weights": torch.stack(list(weights))})
        return [r.model_copy(update={"shard": name, "row": row}) for row, r in enumerate(records)]

    @cached_property
    def _references(self) -> tuple[Mapping[str, Tensor], str]:
        """The tensors of references.safetensors, and the sha256 of the zoo that they were fitted to."""
        return archived_references(self) if self.is_archive else read_references(self.folder)

    def _reference_tensor(self, arch: str, kind: str) -> Tensor:
        self.spec(arch)  # Raises NotFound for an unknown architecture.
        tensors = self._references[0]
        if f"{arch}/{kind}" not in tensors:
            why = "it is not finished: its build was interrupted, or networks were added"
            raise BadInput(
                f"the zoo {self.folder} has no {kind} for {arch!r}", why, "Run its build again, or zoo.finalize()."
            )
        return tensors[f"{arch}/{kind}"]

    def _replace_references(self, tensors: dict[str, Tensor], zoo_sha256: str = "") -> None:
        write_references(self.folder, tensors, zoo_sha256)
        self.__dict__.pop("_references", None)
