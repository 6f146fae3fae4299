"""Puts the search's best beside the zoo's best networks, under one head: a further result for who can afford to run them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from popgen.baselines.ensemble import side_by_side, strongest
from popgen.baselines.rivals import RivalInputs
from popgen.baselines.row import Row
from popgen.jobs.searching.folder import RunFolder
from popgen.jobs.searching.fronts import SEARCH
from popgen.json_text import json_text


def add_ensemble(
    given: RivalInputs, rows: list[Row], count: int, folder: RunFolder, card: dict[str, str], say: Callable[[str], None]
) -> tuple[list[Row], dict[str, Any] | None]:
    """Write the ensemble of `count` networks; returns the rows with its own before the search's, and what result.json has of it.

    Where the zoo has no other network than the search's best, that is said and nothing is written.

    Args:
        given: the networks of the zoo.
        card: the metadata of the file of the search's weights.
    """
    name = card["arch"]
    [place] = [i for i, row in enumerate(rows) if row.name == SEARCH]
    search = rows[place]
    assert search.scored is not None
    members, ids = strongest(given, search.scored, count)
    if not ids:
        say(f"{name}: no ensemble: the zoo has no network but the search's best")
        return rows, None
    if len(members) < count:
        say(f"{name}: the ensemble has {len(members)} networks instead of {count}, because the zoo has no more")
    whole = side_by_side(members, given.fitness)
    file = folder.write_ensemble(
        card["arch"], whole.state(), card | {"arch_config": json_text(whole.spec.config.to_json())}
    )
    say(
        f"{name}: under one head the search's best and {', '.join(ids)} have {whole.score:.3f} accuracy, at {len(members)} times the cost "
        f"of one network: {file}"
    )
    row = Row.of("ensemble", search.evaluations + len(given.records) * given.fitness.cost, whole, given.data)
    return [*rows[:place], row, *rows[place:]], {"members": [SEARCH, *ids], "weights": str(file)}
