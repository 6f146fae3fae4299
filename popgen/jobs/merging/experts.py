"""The experts of a merge: found in a zoo, with the base that they were trained from, and with units that correspond."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.errors import BadInput, NotFound
from popgen.types import Flat
from popgen.weights.align import align
from popgen.zoo import Checkpoint, Zoo
from popgen.zoo.aligned import share_a_start
from popgen.zoo.refer import find_checkpoint

_EXAMPLES = 256  # images that units are matched on


@dataclass(frozen=True)
class Experts:
    """Checkpoints of one architecture, and their base: its name, its weights (p,), and its record where it is a checkpoint."""

    zoo: Zoo
    records: list[Checkpoint]
    base_name: str | None
    base: Tensor | None
    base_record: Checkpoint | None

    @property
    def spec(self) -> ArchSpec:
        """The architecture."""
        return self.zoo.spec(self.records[0].arch)

    def weights(self, inputs: Tensor | None, say: Callable[[str], None]) -> tuple[Flat, list[str]]:
        """The experts' weights (n, p) with their units in the order of the base's, or of the first expert's; and the ids that were aligned.

        Experts that share a start with it keep their weights.

        Args:
            inputs: prepared images on which units are matched; None matches them by their weights.

        Raises:
            BadInput: networks of independent runs are adapters, or contain an operation that cannot be aligned.
        """
        own, reference = self.zoo.matrix(self.records), self.base_record or self.records[0]
        name, target = reference.id, own[0]
        if self.base_record is not None and self.base is not None:
            name, target = str(self.base_name), self.base
        strange = [i for i, one in enumerate(self.records) if not _corresponds(one, reference)]
        if not strange:
            say(f"the {len(own)} experts come from one start: their units correspond")
            return own, []
        ids = [self.records[i].id for i in strange]
        if self.spec.is_adapter:
            raise BadInput(
                f"{', '.join(ids[:6])} and {name} are adapters that do not share a start",
                "the factors of LoRA are found up to a rotation, so that those of independent runs do not correspond",
                "Merge adapters of one start: popgen zoo build trains them from a shared one.",
            )
        examples = None if inputs is None else inputs[:_EXAMPLES]
        aligned = {i: align(self.spec, own[i], target, examples) for i in strange}
        how = "weights" if examples is None else f"activations on {len(examples)} images"
        moved = max(one.moved for one in aligned.values())
        say(f"{len(ids)} experts of other runs are aligned to {name} by {how}; up to {moved:.0%} of the units moved")
        return torch.stack([aligned[i].weights if i in aligned else flat for i, flat in enumerate(own)]), ids


def find_experts(zoo_name: str, names: list[str], base: str | None) -> Experts:
    """Find the experts and their base.

    Args:
        names: ids in the zoo, or globs of ids.
        base: an id in the zoo, or ZOO#ID; None: the parent or the start that the experts share, where the zoo knows it.

    Raises:
        NotFound: no zoo or checkpoint has the name.
        BadInput: fewer than two experts, or experts of several architectures or class lists, or a base of another architecture.
    """
    zoo = Zoo.open(zoo_name)
    records = list({record.id: record for name in names for record in _named(zoo, name)}.values())
    if len(records) < 2:
        raise BadInput(
            f"{', '.join(names)} names {len(records)} checkpoint of the zoo {zoo.name}",
            "a merge takes two or more",
            f"popgen zoo list {zoo.folder} lists them; globs such as 'cnn-s/digits/rotate:*/s0' name several.",
        )
    _check_alike(records, zoo.spec(records[0].arch))
    return Experts(zoo, records, *_base(zoo, records, base))


def _named(zoo: Zoo, name: str) -> list[Checkpoint]:
    if not any(mark in name for mark in "*?["):
        return [zoo.record(name)]
    found = [record for record in zoo.records if fnmatchcase(record.id, name)]
    if not found:
        raise NotFound(
            f"no checkpoint of the zoo {zoo.name} matches {name!r}",
            f"it has {', '.join(record.id for record in zoo.records[:4])}, ...",
            f"popgen zoo list {zoo.folder} lists them.",
        )
    return found


def _check_alike(records: list[Checkpoint], spec: ArchSpec) -> None:
    """Refuse networks whose tensors, or the classes of whose outputs, differ."""
    archs = sorted({record.arch for record in records})
    if len(archs) > 1:
        raise BadInput(
            f"the experts are of several architectures: {', '.join(archs)}",
            "a merge is an average of tensors, which must correspond",
            "Name experts of one architecture.",
        )
    if spec.is_adapter and spec.config.options.get("head") == "phrases":
        return  # the head is made of the phrases of any data set, and no part of the networks
    first = records[0]
    for other in records[1:]:
        if other.classes and first.classes and other.classes != first.classes:
            lists = [", ".join(one.classes[:4]) + (", ..." if len(one.classes) > 4 else "") for one in (first, other)]
            raise BadInput(
                f"{first.id} and {other.id} answer with different classes",
                f"{lists[0]} and {lists[1]}: an average of their heads would mean nothing",
                "Name experts with one list of classes.",
            )


def _base(
    zoo: Zoo, records: list[Checkpoint], named: str | None
) -> tuple[str | None, Tensor | None, Checkpoint | None]:
    """The name, weights and record of the base."""
    arch = records[0].arch
    if named is not None:
        forms = "a base is a checkpoint of the zoo, or"
        of, record = find_checkpoint(named, "the base", forms) if "#" in named else (zoo, zoo.record(named))
        if record.fingerprint != records[0].fingerprint:
            raise BadInput(
                f"the base {named} is a {record.arch}",
                f"the experts are of {arch!r}, whose tensors differ",
                "Name the network that the experts were trained from.",
            )
        return named, of.matrix([record])[0], record
    parents = {record.parent for record in records}
    parent = parents.pop() if len(parents) == 1 else None
    if parent is not None and parent in zoo:
        record = zoo.record(parent)
        return record.id, zoo.matrix([record])[0], record
    start = zoo.start(arch)
    return (None, None, None) if start is None else (f"the start of the zoo {zoo.name}", start, None)


def _corresponds(record: Checkpoint, reference: Checkpoint) -> bool:
    """Whether a network's units correspond to those of a reference, which may be a checkpoint of another zoo."""
    return share_a_start(record, reference) or (record.parent or "").endswith(f"#{reference.id}")
