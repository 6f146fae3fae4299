"""Puts the search's best beside the zoo's best networks, under one head: a further result for who can afford to run them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from popgen.baselines.ensemble import mean_of, side_by_side, strongest
from popgen.baselines.rivals import RivalInputs
from popgen.baselines.row import Row
from popgen.fitness import Scored
from popgen.jobs.searching.folder import RunFolder
from popgen.jobs.searching.tuning.auto import Tuning
from popgen.jobs.searching.tuning.outcome import SEARCH, tuned_name
from popgen.json_text import json_text


@dataclass(frozen=True)
class Others:
    """The best of searches from other starts than that of the search, by name, and the evaluations that they took."""

    best: dict[str, Scored] = field(default_factory=dict)
    evaluations: int = 0


def add_ensemble(
    given: RivalInputs,
    rows: list[Row],
    count: int,
    others: Others,
    tuning: Tuning | None,
    folder: RunFolder,
    card: dict[str, str],
    say: Callable[[str], None],
) -> tuple[list[Row], dict[str, Any] | None]:
    """Write the ensemble of `count` networks; returns the rows with its own before the search's, and what result.json has of it.

    Where the search's best was trained, so are the others, and an ensemble of the trained ones is written, too. Where there is no other network than
    the search's best, that is said and nothing is written.

    Args:
        given: the networks of the zoo.
        others: the best of searches from other starts.
        tuning: how the search's best was trained; None where it was not.
        card: the metadata of the file of the search's weights.
    """
    name = card["arch"]
    place = min(i for i, row in enumerate(rows) if row.name == SEARCH or row.name.startswith("finetuned_"))
    [search] = [row for row in rows if row.name == SEARCH]
    assert search.scored is not None
    members, ids = strongest(given, search.scored, count, others.best)
    if not ids:
        say(f"{name}: no ensemble: there is no network but the search's best")
        return rows, None
    if len(members) < count:
        say(f"{name}: the ensemble has {len(members)} networks instead of {count}, because there are no more")
    cost = search.evaluations + len(given.records) * given.fitness.cost + others.evaluations
    whole = side_by_side(members, given.fitness)
    file = _write(folder, "ensemble", whole, card)
    say(
        f"{name}: under one head the search's best and {', '.join(ids)} have {whole.score:.3f} accuracy, at {len(members)} times the cost "
        f"of one network: {file}"
    )
    made = [Row.of("ensemble", cost, whole, given.data)]
    about: dict[str, Any] = {"members": [SEARCH, *ids], "weights": str(file)}
    trained = _trained(members[1:], ids, rows, tuning)
    if tuning is not None and len(trained) > 1:
        mean = mean_of(list(trained.values()), given.fitness)
        file = _write(folder, "finetuned-ensemble", mean, card)
        say(
            f"{name}: the mean of {len(trained)} fine-tuned networks has {mean.score:.3f} accuracy on held-out examples: {file}"
        )
        made.append(Row.of("finetuned_ensemble", cost + len(trained) * tuning.cost, mean, given.data))
        about["finetuned"] = {"members": list(trained), "weights": str(file)}
    return [*rows[:place], *made, *rows[place:]], about


def _trained(others: list[Scored], ids: list[str], rows: list[Row], tuning: Tuning | None) -> dict[str, Scored]:
    """The members after training by their names; those that the table has are not trained again."""
    if tuning is None or not tuning.gains:
        return {}
    known = {row.name: row.scored for row in rows if row.scored is not None}
    found = {SEARCH: known[tuned_name(SEARCH)]} if tuned_name(SEARCH) in known else {}
    best, trained = known.get("best_zoo"), known.get(tuned_name("best_zoo"))
    left = {}
    for i, member in zip(ids, others, strict=True):
        if best is not None and trained is not None and torch.equal(best.flat, member.flat):
            found[i] = trained
        else:
            left[i] = member
    return found | tuning.further(left)


def _write(folder: RunFolder, kind: str, whole: Scored, card: dict[str, str]) -> Path:
    about = card | {"arch_config": json_text(whole.spec.config.to_json())}
    return folder.write_ensemble(card["arch"], kind, whole.state(), about)
