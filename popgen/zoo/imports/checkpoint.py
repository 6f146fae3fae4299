"""Imports foreign checkpoints into a zoo: one file, a folder of files, or the files that an index CSV describes."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from popgen.archs import ArchSpec, arch_config, check_runs, class_names
from popgen.configs.spec import ArchEntry
from popgen.data import DataSet
from popgen.errors import BadInput, BrokenFile, NotFound
from popgen.networks.train import evaluate
from popgen.refs import inside
from popgen.tasks import get_task, score_key
from popgen.types import StateDict
from popgen.zoo.imports.fetch import check_sha256, download, hub_tensors
from popgen.zoo.imports.tensors import SUFFIXES, fit_tensors, read_tensors
from popgen.zoo.record import Checkpoint, weights_sha256
from popgen.zoo.store import Zoo

# Each column of an index CSV and the field of ForeignCheckpoint that it fills. Columns whose names begin with
# `accuracy` or `loss` become metrics.
_COLUMNS = {
    "file": "path",
    "architecture": "arch",
    "arch": "arch",
    "dataset": "data",
    "data": "data",
    "lineage": "lineage",
    "parent": "parent",
    "source": "source",
    "source_repository": "source",
    "licence": "licence",
    "license": "licence",
    "key": "key",
    "name": "name",
    "sha256": "sha256",
}


@dataclass(frozen=True)
class ForeignCheckpoint:
    """A description of a checkpoint that popgen did not make; it is a lineage of its own unless `lineage` is given."""

    path: Path  # path of the file; for a URL or hub entry only its name counts
    arch: str = ""  # name of a known architecture, which `changes` may modify
    data: str = ""  # name of the data set that it was trained on
    lineage: str = ""  # training run or base that it comes from; "" takes the checkpoint's own name
    parent: str = ""  # id of the checkpoint that it was trained from, if known
    source: str = ""  # origin of the file
    licence: str = "unknown"  # licence of the weights
    key: str = ""  # dotted path of the state dict in the file, such as `state_dict.1`; "" looks under the usual keys
    metrics: dict[str, float] = field(default_factory=dict)  # metrics that the source states; accuracies are 0 to 1
    name: str = ""  # last part of its id; "" takes the name of the file or hub entry
    changes: ArchEntry | None = None  # its name in the zoo, and how the network differs from the named architecture
    class_names: tuple[str, ...] = ()  # names of the outputs, in order; () takes those known for the architecture
    url: str = ""  # URL of the file, which is downloaded
    hub: str = ""  # torch.hub entry whose pretrained weights are taken, such as hub:OWNER/REPO:ENTRY
    sha256: str = ""  # first digits of the file's sha256; "" checks nothing
    held_out: bool = False  # whether generators must not train on it

    @property
    def where(self) -> str:
        """Hub entry, URL or path of the weights, for messages."""
        return self.hub or self.url or str(self.path)

    @property
    def stem(self) -> str:
        """Last part of the id: the given name, or the file's without its suffix."""
        return self.name or self.path.stem

    @property
    def arch_spec(self) -> ArchSpec:
        """The ArchSpec of the architecture with its changes; a network of it has been run once as a check.

        Raises:
            NotFound: there is no such architecture.
            BadInput: it does not run on images of its input shape.
        """
        return _read_arch_spec(self.arch, self.changes.model_dump_json() if self.changes else "")

    @property
    def id(self) -> str:
        """Id in the zoo: ARCH/DATA/STEM."""
        return f"{self.arch_spec.name}/{self.data}/{self.stem}"

    def check(self) -> None:
        """Refuse a description that cannot be imported, whatever its weights are.

        Raises:
            NotFound: there is no such architecture.
            BadInput: the architecture or data set is not given, the architecture does not run, or the class names are
                not as many as the outputs.
        """
        for field_name, value in (("architecture", self.arch), ("data set", self.data)):
            if not value:
                raise BadInput(
                    f"{self.where}: its {field_name} is not given",
                    "a checkpoint file does not say",
                    "Use --arch and --data, or a column of the index.",
                )
        arch_spec = self.arch_spec
        if self.class_names and len(self.class_names) != arch_spec.config.classes:
            raise BadInput(
                f"{len(self.class_names)} class names for {arch_spec.name!r}",
                f"it has {arch_spec.config.classes} outputs",
                "Name each output once.",
            )

    def read(self) -> tuple[StateDict, str]:
        """Its tensors under the architecture's names, and a note on how their names were changed ("" if they were not).

        Raises:
            NotFound, BadInput, BrokenFile, Offline: as `import_checkpoint`.
        """
        if self.hub:
            return fit_tensors(self.arch_spec, hub_tensors(self.hub), self.hub)
        path = download(self.url, self.sha256) if self.url else self.path
        tensors = read_tensors(path, self.key or None)
        if self.sha256 and not self.url:
            check_sha256(path, self.sha256)
        return fit_tensors(self.arch_spec, tensors, str(path))


def import_checkpoint(foreign: ForeignCheckpoint) -> tuple[Checkpoint, StateDict]:
    """Read a foreign checkpoint and return its record and state dict; every tensor is checked against the architecture.

    Raises:
        NotFound: there is no such file or architecture.
        BrokenFile: the file is truncated, has another sha256, or is a pickle that wants to run code.
        BadInput: the tensors do not fit the architecture, or the description is incomplete.
        Offline: the file has to be downloaded and the server does not answer.

    >>> import tempfile, torch
    >>> from popgen.archs import build
    >>> path = Path(tempfile.mkdtemp(), "net.pt")
    >>> torch.save({"state_dict": build("mlp-s", seed=0).state_dict()}, path)
    >>> record, state = import_checkpoint(ForeignCheckpoint(path, "mlp-s", "digits"))
    >>> record.id
    'mlp-s/digits/net'
    """
    foreign.check()
    arch_spec = foreign.arch_spec
    state, note = foreign.read()
    record = Checkpoint(
        id=foreign.id,
        arch=arch_spec.name,
        arch_config=arch_spec.config,
        data=foreign.data,
        classes=foreign.class_names or class_names(arch_spec.config.builder, arch_spec.config.classes),
        lineage=foreign.lineage or foreign.stem,
        parent=foreign.parent or None,
        held_out=foreign.held_out,
        metrics=foreign.metrics,
        source=foreign.source,
        licence=foreign.licence,
        note=note,
    )
    return record, state


def import_checkpoints(
    zoo: Zoo,
    foreign_checkpoints: Sequence[ForeignCheckpoint],
    *,
    evaluate_on: DataSet | None = None,
    on_import: Callable[[Checkpoint, bool], None] = lambda record, is_new: None,
) -> list[Checkpoint]:
    """Add foreign checkpoints to a zoo, finalise it and return the new records; those that it already has are skipped.

    Args:
        evaluate_on: a data set on whose test split each new checkpoint is evaluated; the score and loss are recorded as
            test_accuracy (or the unit of the architecture's task) and test_loss.
        on_import: called after each checkpoint with its record and whether it is new.

    Raises:
        BadInput: a checkpoint does not fit, or the zoo has other weights under its id; those before it stay in the zoo.
        NotFound, BrokenFile, Offline: as `import_checkpoint`.
    """
    added = []
    try:
        for foreign in foreign_checkpoints:
            if evaluate_on is not None and not foreign.class_names:
                foreign = replace(foreign, class_names=evaluate_on.classes)
            record, state = import_checkpoint(foreign)
            arch_spec = foreign.arch_spec
            if record.id in zoo:
                if zoo.record(record.id).sha256 != weights_sha256(arch_spec.to_flat(state)):
                    raise BadInput(
                        f"{foreign.where}: the zoo has {record.id!r} with other weights",
                        "ids are unique",
                        "Rename the file.",
                    )
                on_import(zoo.record(record.id), False)
                continue
            if evaluate_on is not None:
                loss, score = evaluate(arch_spec, state, evaluate_on.test)
                task = get_task(arch_spec.config.task)
                metrics = {**record.metrics, "test_loss": loss, score_key(task.unit, "test"): score}
                record = record.model_copy(update={"metrics": metrics})
            zoo.add([(record, state)])
            added.append(zoo.record(record.id))
            on_import(added[-1], True)
    finally:
        if added:
            zoo.finalize()
    return [zoo.record(r.id) for r in added]


def list_checkpoints(path: Path, default: ForeignCheckpoint) -> list[ForeignCheckpoint]:
    """The checkpoints of a file, a folder or an index CSV; fields that the CSV does not give are those of `default`.

    Raises:
        NotFound: the folder holds no checkpoints.
        BrokenFile: the CSV cannot be read.
        BadInput: the CSV has no column `file`, names a file outside its folder, or has a metric that is not a number.
    """
    if path.is_dir():
        paths = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES)
        if not paths:
            raise NotFound(
                f"{path} holds no checkpoints",
                f"looked for {', '.join(SUFFIXES)}",
                "Name the folder that holds the files.",
            )
        return [replace(default, path=p) for p in paths]
    if path.suffix != ".csv":
        return [replace(default, path=path)]
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            entries = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BrokenFile(f"{path} cannot be read", str(error), "Write it as CSV in UTF-8.") from error
    if not entries or "file" not in entries[0]:
        columns = ", ".join(entries[0]) if entries else "nothing"
        raise BadInput(
            f"{path} has no column 'file'", f"it has {columns}", f"Columns: {', '.join(_COLUMNS)}, accuracy..."
        )
    return [_from_entry(entry, path, default) for entry in entries]


def _from_entry(entry: dict[str, str], index: Path, default: ForeignCheckpoint) -> ForeignCheckpoint:
    """The checkpoint that one line of the CSV `index` describes."""
    given = {
        _COLUMNS[column]: text.strip() for column, text in entry.items() if column in _COLUMNS and text and text.strip()
    }
    metrics = {}
    for column, text in entry.items():
        if column and column.startswith(("accuracy", "loss")) and text and text.strip():
            try:
                value = float(text)
            except ValueError as error:
                raise BadInput(
                    f"{index}: {column} of {entry['file']} is {text!r}", "a number was expected", "Correct the cell."
                ) from error
            is_per_cent = column.startswith("accuracy") and value > 1
            metrics[column] = value / 100 if is_per_cent else value
    path = inside(index.parent, given.pop("path", ""))
    return replace(default, **given, path=path, metrics={**default.metrics, **metrics})  # type: ignore[arg-type]


@lru_cache(maxsize=64)
def _read_arch_spec(arch: str, changes: str) -> ArchSpec:
    """The ArchSpec of a named architecture with `changes`, an ArchEntry as JSON (hashable, for the cache) or ""."""
    config = arch_config(arch, **(ArchEntry.model_validate_json(changes).replaced if changes else {}))
    check_runs(config)
    return ArchSpec.from_config(config)
