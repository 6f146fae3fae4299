"""Checks a zoo for damaged weights, duplicate ids and weights, an incomplete index, and outdated references."""

from __future__ import annotations

from typing import TYPE_CHECKING

from popgen.errors import PopgenError
from popgen.zoo.record import group_by, weights_sha256

if TYPE_CHECKING:
    from popgen.zoo.store import Zoo


def find_problems(zoo: Zoo) -> list[str]:
    """Problems of the folder, one line each; an empty list when all is well."""
    problems = [f"{checkpoint_id}: {why}" for checkpoint_id, why in find_damaged(zoo).items()]
    for checkpoint_id, records in group_by(zoo.records, "id").items():
        if len(records) > 1:
            problems.append(f"index.jsonl: the id {checkpoint_id} occurs {len(records)} times")
    for records in group_by([] if zoo.is_archive else zoo.records, "sha256").values():  # coarse forms may be equal
        if len({r.id for r in records}) > 1:
            problems.append(f"{records[1].id}: has the same weights as {records[0].id}")
    if zoo.is_torn:
        problems.append("index.jsonl: the last line is cut off; the next write removes it")
    if zoo.is_archive and not zoo.is_final:
        problems.append("index.jsonl: it is not that of the archive as it was made")
    elif zoo.records and not zoo.is_final:
        problems.append("references.safetensors: made for another state of the index; zoo.finalize() writes it again")
    return problems


def find_damaged(zoo: Zoo) -> dict[str, str]:
    """The reason for each checkpoint whose weights cannot be read or do not have the recorded hash, by its id."""
    damaged = {}
    for shard, records in group_by(zoo.records, "shard").items():
        fitting = []
        for record in records:
            expected = zoo.spec(record.arch).fingerprint
            if record.fingerprint == expected:
                fitting.append(record)
            else:
                damaged[record.id] = f"fingerprint {record.fingerprint} is not that of {record.arch}, {expected}"
        for same_arch in group_by(fitting, "fingerprint").values():
            try:
                weights = zoo.matrix(same_arch)
            except PopgenError as error:
                damaged.update({r.id: f"{error.what}: {error.why}" for r in same_arch})
                continue
            for record, flat in zip(same_arch, weights, strict=True):
                if weights_sha256(flat) != record.sha256:
                    damaged[record.id] = f"its weights do not have the recorded sha256 ({shard}, row {record.row})"
    return damaged
