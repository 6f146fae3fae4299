"""Verification of a zoo: weights against their hashes, duplicate ids and weights, outdated references."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from popgen.errors import PopgenError
from popgen.zoo.record import Checkpoint, weights_sha256

if TYPE_CHECKING:
    from popgen.zoo.store import Zoo


def find_problems(zoo: Zoo) -> list[str]:
    """Return the problems of the folder, one line each; an empty list if there are none."""
    problems = [f"{checkpoint_id}: {why}" for checkpoint_id, why in find_damaged(zoo).items()]
    problems += [
        f"index.jsonl: the id {name} stands there {len(g)} times"
        for name, g in _groups(zoo, "id").items()
        if len(g) > 1
    ]
    for group in _groups(zoo, "sha256").values():
        if len({r.id for r in group}) > 1:
            problems.append(f"{group[1].id}: has the same weights as {group[0].id}")
    if zoo.is_torn:
        problems.append("index.jsonl: the last line is cut off; the next write removes it")
    if zoo.records and not zoo.is_final:
        problems.append("references.safetensors: made for another state of the index; zoo.finalize() writes it anew")
    return problems


def find_damaged(zoo: Zoo) -> dict[str, str]:
    """Return the ids of the checkpoints whose weights cannot be read or differ from the recorded hash, with the reason."""
    damaged = {}
    for shard, records in _groups(zoo, "shard").items():
        fitting = []
        for record in records:
            expected = zoo.spec(record.arch).fingerprint
            if record.fingerprint == expected:
                fitting.append(record)
            else:
                damaged[record.id] = f"fingerprint {record.fingerprint} is not that of {record.arch}, {expected}"
        for group in _by(fitting, "fingerprint").values():
            try:
                weights = zoo.matrix(group)
            except PopgenError as error:
                damaged.update({r.id: f"{error.what}: {error.why}" for r in group})
                continue
            for record, flat in zip(group, weights, strict=True):
                if weights_sha256(flat) != record.sha256:
                    damaged[record.id] = f"its weights do not have the recorded sha256 ({shard}, row {record.row})"
    return damaged


def _groups(zoo: Zoo, field: str) -> dict[str, list[Checkpoint]]:
    return _by(zoo.records, field)


def _by(records: list[Checkpoint], field: str) -> dict[str, list[Checkpoint]]:
    groups: dict[str, list[Checkpoint]] = defaultdict(list)
    for record in records:
        groups[getattr(record, field)].append(record)
    return groups
