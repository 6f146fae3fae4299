"""Describes the networks that something is made from, for its card: how many, of what lineages, sources and licences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from popgen.errors import PopgenError
from popgen.zoo.record import Checkpoint
from popgen.zoo.refer import find_checkpoint


def parents_of(records: Iterable[Checkpoint], robust: Iterable[str] = ()) -> dict[str, Any]:
    """Return the number of checkpoints and lineages, how many have each licence and source, and the networks they go back to.

    Args:
        robust: further networks ZOO#ID that are kept.

    Returns:
        `checkpoints`, `lineages`, `licences`, `sources`, and `bases`: the licence of each ZOO#ID, `unknown` where its zoo
        is not here.

    >>> from popgen.zoo import Zoo
    >>> parents_of(Zoo.open("digits").records)["licences"]
    {'BSD-3-Clause': 312}
    """
    records = list(records)
    named = {(record.parent or "").removeprefix("start:") for record in records if "#" in (record.parent or "")}
    return {
        "checkpoints": len(records),
        "lineages": len({record.lineage for record in records}),
        "licences": dict(Counter(record.licence or "unknown" for record in records)),
        "sources": dict(Counter(record.source for record in records if record.source)),
        "bases": {reference: _licence(reference) for reference in sorted({*named, *robust})},
    }


def _licence(reference: str) -> str:
    try:
        return find_checkpoint(reference, "a base", "it is")[1].licence or "unknown"
    except PopgenError:
        return "unknown"
