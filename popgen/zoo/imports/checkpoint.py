"""Import of foreign checkpoints into a zoo: a file, a folder of files, or an index CSV with one checkpoint in each row."""

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

# Field of ForeignCheckpoint for each column of an index CSV. Columns that begin with `accuracy` or `loss` are metrics.
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
    """A checkpoint that popgen did not train, as its user describes it.

    Attributes:
        path: the file of weights; with `url` or `hub` only its stem is used, as a name.
        lineage: the training run or base that it comes from; "": the checkpoint is a lineage of its own.
        key: path of the state dict inside the file; "": it is searched for under usual names.
        name: last part of its id; "": the file's stem.
        changes: name in the zoo, and values that replace those of the named architecture.
        class_names: names of the outputs, in order; (): those that the architecture knows.
        hub: a torch.hub entry whose pretrained weights are imported.
        sha256: first digits of the file's hash.
    """

    path: Path
    arch: str = ""
    data: str = ""
    lineage: str = ""
    parent: str = ""
    source: str = ""
    licence: str = "unknown"
    key: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    name: str = ""
    changes: ArchEntry | None = None
    class_names: tuple[str, ...] = ()
    url: str = ""
    hub: str = ""
    sha256: str = ""
    held_out: bool = False

    @property
    def where(self) -> str:
        """Hub entry, URL or path of the weights, for messages."""
        return self.hub or self.url or str(self.path)

    @property
    def stem(self) -> str:
        return self.name or self.path.stem

    @property
    def spec(self) -> ArchSpec:
        """The architecture, after a check that it runs on the inputs that it names."""
        return _spec(self.arch, self.changes.model_dump_json() if self.changes else "")

    @property
    def id(self) -> str:
        return f"{self.spec.name}/{self.data}/{self.stem}"

    def check(self) -> None:
        """Check everything that can be checked without reading the weights.

        Raises:
            NotFound: no such architecture.
            BadInput: architecture or data set is not given, the architecture does not run, or the number of class names
                is not that of the outputs.
        """
        for what, given in (("architecture", self.arch), ("data set", self.data)):
            if not given:
                raise BadInput(
                    f"{self.where}: its {what} is not given",
                    "a checkpoint file does not say",
                    "Use --arch and --data, or a column of the index.",
                )
        if self.class_names and len(self.class_names) != self.spec.config.classes:
            raise BadInput(
                f"{len(self.class_names)} class names for {self.spec.name!r}",
                f"it has {self.spec.config.classes} outputs",
                "Name each output once.",
            )

    def read(self) -> tuple[StateDict, str]:
        """Read its tensors under the architecture's names; returns them with a note on how names were matched.

        Raises:
            NotFound, BadInput, BrokenFile, Offline: see `import_checkpoint`.
        """
        if self.hub:
            return fit_tensors(self.spec, hub_tensors(self.hub), self.hub)
        path = download(self.url, self.sha256) if self.url else self.path
        tensors = read_tensors(path, self.key or None)
        if self.sha256 and not self.url:
            check_sha256(path, self.sha256)
        return fit_tensors(self.spec, tensors, str(path))


def import_checkpoint(foreign: ForeignCheckpoint) -> tuple[Checkpoint, StateDict]:
    """Read a file, URL or hub entry as a checkpoint, and check each tensor.

    Raises:
        NotFound: the file or the architecture does not exist.
        BrokenFile: the file is truncated, has another sha256, or is a pickle that would run code.
        BadInput: the tensors do not fit the architecture.
        Offline: the weights must be downloaded, and cannot be.

    >>> import tempfile, torch
    >>> from popgen.archs import build
    >>> path = Path(tempfile.mkdtemp(), "net.pt")
    >>> torch.save({"state_dict": build("mlp-s", seed=0).state_dict()}, path)
    >>> record, state = import_checkpoint(ForeignCheckpoint(path, "mlp-s", "digits"))
    >>> record.id
    'mlp-s/digits/net'
    """
    foreign.check()
    spec = foreign.spec
    state, note = foreign.read()
    record = Checkpoint(
        id=foreign.id,
        arch=spec.name,
        arch_config=spec.config,
        data=foreign.data,
        classes=foreign.class_names or class_names(spec.config.builder, spec.config.classes),
        lineage=foreign.lineage or foreign.stem,
        parent=foreign.parent or None,
        held_out=foreign.held_out,
        metrics=foreign.metrics,
        source=foreign.source,
        licence=foreign.licence,
        note=note,
    )
    return record, state


def import_many(
    zoo: Zoo,
    files: Sequence[ForeignCheckpoint],
    *,
    check: DataSet | None = None,
    on_checkpoint: Callable[[Checkpoint, bool], None] = lambda record, new: None,
) -> list[Checkpoint]:
    """Add foreign checkpoints to a zoo and finalize it; those that it already has are skipped.

    Args:
        check: a data set on whose test split each is evaluated; the result is recorded as test_accuracy and test_loss.
        on_checkpoint: called after each checkpoint with its record, and whether it was new.

    Raises:
        BadInput: a file does not fit, or an id has other weights in the zoo; checkpoints before it remain in the zoo.
    """
    added = []
    try:
        for foreign in files:
            if check is not None and not foreign.class_names:
                foreign = replace(foreign, class_names=check.classes)
            record, state = import_checkpoint(foreign)
            spec = foreign.spec
            if record.id in zoo:
                if zoo.record(record.id).sha256 != weights_sha256(spec.to_flat(state)):
                    raise BadInput(
                        f"{foreign.where}: the zoo has {record.id!r} with other weights",
                        "ids are unique",
                        "Rename the file.",
                    )
                on_checkpoint(zoo.record(record.id), False)
                continue
            if check is not None:
                loss, score = evaluate(spec, state, check.test)
                task = get_task(spec.config.task)
                metrics = {**record.metrics, "test_loss": loss, score_key(task.unit, "test"): score}
                record = record.model_copy(update={"metrics": metrics})
            zoo.add([(record, state)])
            added.append(zoo.record(record.id))
            on_checkpoint(added[-1], True)
    finally:
        if added:
            zoo.finalize()
    return [zoo.record(r.id) for r in added]


def list_files(path: Path, default: ForeignCheckpoint) -> list[ForeignCheckpoint]:
    """List the checkpoints of a file, a folder or an index CSV; missing columns are filled in from `default`.

    Raises:
        NotFound: the folder holds no checkpoints.
        BrokenFile: the CSV cannot be read.
        BadInput: the CSV has no column `file`, or names a file outside its folder.
    """
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES)
        if not found:
            raise NotFound(
                f"{path} holds no checkpoints",
                f"looked for {', '.join(SUFFIXES)}",
                "Name the folder that holds the files.",
            )
        return [replace(default, path=p) for p in found]
    if path.suffix != ".csv":
        return [replace(default, path=path)]
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BrokenFile(f"{path} cannot be read", str(error), "Write it as CSV in UTF-8.") from error
    if not rows or "file" not in rows[0]:
        columns = ", ".join(rows[0]) if rows else "nothing"
        raise BadInput(
            f"{path} has no column 'file'", f"it has {columns}", f"Columns: {', '.join(_COLUMNS)}, accuracy..."
        )
    return [_from_row(row, path, default) for row in rows]


def _from_row(row: dict[str, str], index: Path, default: ForeignCheckpoint) -> ForeignCheckpoint:
    given = {
        _COLUMNS[column]: text.strip() for column, text in row.items() if column in _COLUMNS and text and text.strip()
    }
    metrics = {}
    for column, text in row.items():
        if column and column.startswith(("accuracy", "loss")) and text and text.strip():
            try:
                value = float(text)
            except ValueError as error:
                raise BadInput(
                    f"{index}: {column} of {row['file']} is {text!r}", "a number was expected", "Correct the cell."
                ) from error
            is_per_cent = column.startswith("accuracy") and value > 1
            metrics[column] = value / 100 if is_per_cent else value
    path = inside(index.parent, given.pop("path", ""))
    return replace(default, **given, path=path, metrics={**default.metrics, **metrics})  # type: ignore[arg-type]


@lru_cache(maxsize=64)
def _spec(arch: str, changes: str) -> ArchSpec:
    config = arch_config(arch, **(ArchEntry.model_validate_json(changes).replaced if changes else {}))
    check_runs(config)
    return ArchSpec.from_config(config)
