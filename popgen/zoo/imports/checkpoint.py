"""A foreign checkpoint: what is known of it before its file is read, and its record and weights after that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from popgen.archs import ArchConfig, ArchSpec, arch_config, check_runs, class_names
from popgen.archs.adapters.config import WITHOUT_BASE
from popgen.configs.spec import ArchEntry
from popgen.errors import BadInput
from popgen.types import StateDict
from popgen.zoo.imports.fetch import check_sha256, check_weights_of, download, hub_tensors
from popgen.zoo.imports.loading import INDEX_SUFFIXES
from popgen.zoo.imports.matching import fit_tensors
from popgen.zoo.imports.tensors import SUFFIXES, FoundTensors, find_tensors, leave_out
from popgen.zoo.record import Checkpoint

_LONG_SUFFIXES = (*INDEX_SUFFIXES, *(suffix for suffix in SUFFIXES if suffix.count(".") > 1))


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
    use: str = ""  # "ema" takes the moving average of the weights that the file holds beside them
    ignore: tuple[str, ...] = ()  # patterns of the names of tensors to leave out, such as `total_*`
    metrics: dict[str, float] = field(default_factory=dict)  # metrics that the source states; accuracies are 0 to 1
    name: str = ""  # last part of its id; "" takes the name of the file or hub entry
    changes: ArchEntry | None = None  # its name in the zoo, and how the network differs from the named architecture
    class_names: tuple[str, ...] = ()  # names of the outputs, in order; () takes those known for the architecture
    labels: tuple[str, ...] = ()  # names of the outputs that the source itself states, for want of class_names
    url: str = ""  # URL of the file, which is downloaded
    hub: str = ""  # what brings the weights: an entry of torch.hub, hub:OWNER/REPO:ENTRY, or a model of transformers, hf:FOLDER
    sha256: str = ""  # first digits of the file's sha256; "" checks nothing
    held_out: bool = False  # whether generators must not train on it
    base: str = ""  # name of an adapter's frozen base; "" takes the one that the adapter names
    config: ArchConfig | None = None  # the architecture where the source itself describes it, as an adapter's does

    @property
    def where(self) -> str:
        """Hub entry, URL or path of the weights, for messages."""
        return self.hub or self.url or str(self.path)

    @property
    def stem(self) -> str:
        """Last part of the id: the given name, or the file's without its suffix."""
        if self.name:
            return self.name
        suffix = next((s for s in _LONG_SUFFIXES if self.path.name.lower().endswith(s)), self.path.suffix)
        return self.path.name[: len(self.path.name) - len(suffix)]

    @property
    def arch_spec(self) -> ArchSpec:
        """The ArchSpec of the architecture with its changes; a network of it has been run once as a check.

        Raises:
            NotFound: there is no such architecture.
            BadInput: it does not run on images of its input shape.
        """
        if self.config is not None:
            return _described_arch_spec(self.config, self.changes.name if self.changes else self.config.name)
        return _read_arch_spec(self.arch, self.changes.model_dump_json() if self.changes else "")

    @property
    def id(self) -> str:
        """Id in the zoo: ARCH/DATA/STEM."""
        return f"{self.arch_spec.name}/{self.data}/{self.stem}"

    def check(self) -> None:
        """Refuse a description that cannot be imported, whatever its weights are.

        Raises:
            NotFound: there is no such architecture.
            BadInput: the architecture or data set is not given, the architecture does not run, the class names are not
                as many as the outputs, or both `key` and `use` are given.
        """
        for field_name, value in (("architecture", self.arch), ("data set", self.data)):
            if not value:
                raise BadInput(
                    f"{self.where}: its {field_name} is not given",
                    "a checkpoint file does not say",
                    "Use --arch and --data, or a column of the index.",
                )
        if self.key and self.use:
            what, why = f"{self.where}: both key and use are given", f"key {self.key!r} names the state dict already"
            raise BadInput(what, why, "Leave one of them out.")
        if (self.key or self.use) and self.hub:
            what = f"{self.where} is no file of several state dicts"
            raise BadInput(what, "key and use choose among these", "Leave them out.")
        if self.base and self.config is None:
            what, why = f"{self.where} is no adapter", f"--base {self.base} names the base of one"
            raise BadInput(what, why, "Leave --base out, or name a folder with adapter_config.json.")
        arch_spec = self.arch_spec
        if self.config is not None:  # An adapter has outputs for the classes of any data set.
            given = set(self.changes.replaced if self.changes else {}) - {"name", "classes"}
            if given:
                what, why = f"{self.where} is an adapter", f"{', '.join(sorted(given))} is for networks of images"
                raise BadInput(what, why, "Leave it out.")
            return
        if self.class_names and len(self.class_names) != arch_spec.config.classes:
            raise BadInput(
                f"{len(self.class_names)} class names for {arch_spec.name!r}",
                f"it has {arch_spec.config.classes} outputs",
                "Name each output once.",
            )

    def read(self) -> tuple[StateDict, FoundTensors]:
        """Its tensors under the architecture's names, and what was found in its file, with notes on changes to names.

        Raises:
            NotFound, BadInput, BrokenFile, Offline: as `import_checkpoint`.
        """
        path = self.path
        if self.hub:
            check_weights_of(self.hub, self.arch_spec.config)
            tensors, note = leave_out(hub_tensors(self.hub), self.ignore)
            found = FoundTensors(tensors, notes=[note] if note else [])
        else:
            path = download(self.url, self.sha256) if self.url else path
            found = find_tensors(path, self.key or None, self.use, self.ignore)
            if self.sha256 and not self.url:
                check_sha256(path, self.sha256)
        state, note = fit_tensors(self.arch_spec, found.tensors, self.hub or str(path))
        found.notes.extend([note] if note else [])
        return state, found


def import_checkpoint(
    foreign: ForeignCheckpoint, on_remark: Callable[[str], None] = lambda _: None
) -> tuple[Checkpoint, StateDict]:
    """Read a foreign checkpoint and return its record and state dict; every tensor is checked against the architecture.

    An accuracy that the file states is recorded among the metrics, as `accuracy_in_file`.

    Args:
        on_remark: called with one line of text on what the user could have chosen otherwise.

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
    state, found = foreign.read()
    for remark in found.remarks:
        on_remark(f"{foreign.where}: {remark}")
    stated = {"accuracy_in_file": found.accuracy[1]} if found.accuracy else {}
    record = Checkpoint(
        id=foreign.id,
        arch=arch_spec.name,
        arch_config=arch_spec.config,
        data=foreign.data,
        classes=foreign.class_names
        or foreign.labels
        or class_names(arch_spec.config.builder, arch_spec.config.classes),
        lineage=foreign.lineage or foreign.stem,
        parent=foreign.parent or None,
        held_out=foreign.held_out,
        metrics={**stated, **foreign.metrics},
        source=foreign.source,
        licence=foreign.licence,
        note="; ".join([*found.notes, *_unverified(arch_spec.config)]),
    )
    return record, state


def _unverified(config: ArchConfig) -> list[str]:
    """The note on an adapter whose base is not here."""
    if config.builder != WITHOUT_BASE:
        return []
    return [f"its base {config.options['base']!r} is not here: imported unverified, and cannot be run"]


@lru_cache(maxsize=64)
def _described_arch_spec(config: ArchConfig, name: str) -> ArchSpec:
    """The ArchSpec of an adapter under a name; a network of it has been run once where its base is here."""
    config = replace(config, name=name)
    if config.builder != WITHOUT_BASE:
        check_runs(config)
    return ArchSpec.from_config(config)


@lru_cache(maxsize=64)
def _read_arch_spec(arch: str, changes: str) -> ArchSpec:
    """The ArchSpec of a named architecture with `changes`, an ArchEntry as JSON (hashable, for the cache) or ""."""
    config = arch_config(arch, **(ArchEntry.model_validate_json(changes).replaced if changes else {}))
    check_runs(config)
    return ArchSpec.from_config(config)
