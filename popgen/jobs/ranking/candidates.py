"""The checkpoints of a zoo that can be ranked for a data set, and their outputs for its classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from popgen.archs import ArchSpec
from popgen.data import DataSet
from popgen.data.classes import match_classes
from popgen.errors import BadInput, PopgenError
from popgen.tasks import CLASSIFICATION
from popgen.zoo import Checkpoint, Zoo

Rows = tuple[int, ...] | None


@dataclass
class Candidates:
    """The records to rank, for each its outputs for the data set's classes (None: not known by name), and who was left out why."""

    records: list[Checkpoint] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def with_names(self) -> Candidates:
        """Those alone whose classes are known by name."""
        kept = [(record, rows) for record, rows in zip(self.records, self.rows, strict=True) if rows is not None]
        lost = len(self.records) - len(kept)
        counts = Counter({"do not know the data set's classes by name": lost}) if lost else Counter()
        return Candidates([record for record, _ in kept], [rows for _, rows in kept], self.left_out + counts)


def find_candidates(zoo: Zoo, data: DataSet, archs: Sequence[str]) -> Candidates:
    """The checkpoints of the architectures (all of them where none is named) that can read the data set's examples.

    Raises:
        NotFound: the zoo has no such architecture.
        BadInput: none can read them.
    """
    found = Candidates()
    wanted = list(dict.fromkeys(archs)) or zoo.archs
    specs = {arch: zoo.spec(arch) for arch in wanted}
    reasons = {arch: _why_not(spec, data) for arch, spec in specs.items()}
    known: dict[tuple[str, ...], Rows] = {}
    for record in sorted((r for r in zoo.records if r.arch in specs), key=lambda r: wanted.index(r.arch)):
        reason = reasons[record.arch]
        if reason:
            found.left_out[reason] += 1
            continue
        if record.classes not in known:
            known[record.classes] = rows_by_name(data, record.classes)
        found.records.append(record)
        found.rows.append(_rows(specs[record.arch], data, known[record.classes]))
    if not found.records:
        raise BadInput(
            f"no checkpoint of the zoo {zoo.folder} can be ranked for {data.name!r}",
            "; ".join(f"{count} {reason}" for reason, count in found.left_out.items()) or "it has none",
            "Name another zoo or data set.",
        )
    return found


def rows_by_name(data: DataSet, classes: tuple[str, ...]) -> Rows:
    """The output for each class of the data set, where all of them are among a network's classes by name."""
    rows = match_classes(data.classes, classes)
    return None if None in rows else tuple(row for row in rows if row is not None)


def _rows(spec: ArchSpec, data: DataSet, by_name: Rows) -> Rows:
    if data.task != CLASSIFICATION:
        return ()  # its outputs are scored as they are
    if spec.with_own_head() is not spec:
        return None  # a head of phrases is fitted to the data set
    return by_name


def _why_not(spec: ArchSpec, data: DataSet) -> str:
    if data.task != spec.config.task:
        return f"do {spec.config.task}, the data set is for {data.task}"
    try:
        spec.for_classes(data.label_phrases).config.inputs.prepare(data.val.inputs[:1])
    except PopgenError as error:
        return f"cannot read its {data.noun} ({error.what})"
    return ""
