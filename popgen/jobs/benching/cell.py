"""One cell of a bench: the searches of an architecture on a data set with a seed, and their rivals at the same image passes.

Every search is an ordinary run folder under the cell's, which goes on from its history. cell.json and outcomes.safetensors are written
last, so that a cell that has them is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import popgen.baselines.clip_ridge
import popgen.baselines.gradient
import popgen.baselines.trained  # noqa: F401 - they register rivals
from popgen.baselines.rivals import RivalInputs, rival_row
from popgen.baselines.row import Row, disagreements, test_outcomes
from popgen.configs.bench import GENERATED, SEARCH
from popgen.configs.load import parse
from popgen.configs.search import SearchConfig
from popgen.configs.spec import Recipe
from popgen.files import write_tensors, write_text
from popgen.jobs.search import prepare, search_in
from popgen.jobs.searching.arch import Run, make_ready
from popgen.jobs.searching.details import Found
from popgen.jobs.searching.folder import RunFolder
from popgen.json_text import json_text, known_numbers, parse_json
from popgen.trust import take_own_code
from search import RaySession

CELL, OUTCOMES = "cell.json", "outcomes.safetensors"


@dataclass(frozen=True)
class CellJob:
    """What every cell of a bench needs beside its searches."""

    folder: str  # where every cell has one
    code: dict[str, list[str]]  # where the user's own code lies
    rivals: tuple[str, ...]
    recipe: dict[str, Any]  # how rivals train

    def __call__(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Run a cell, or read it where it is done; it is a trial in a process of Ray's.

        Args:
            settings: `name`, the cell's folder, and `searches`, the settings of each by the name of its row.
        """
        torch.set_num_threads(1)  # it has one CPU; and sums over several threads differ in their last bits
        take_own_code(self.code)
        path = Path(self.folder) / settings["name"]
        if not (path / CELL).exists():
            searches = {
                name: parse(one, SearchConfig, f"{settings['name']}: {name}")
                for name, one in settings["searches"].items()
            }
            self._run(path, searches)
        found: dict[str, Any] = parse_json((path / CELL).read_text())
        return found

    def _run(self, path: Path, searches: dict[str, SearchConfig]) -> None:
        said: list[str] = []
        found = {name: search_in(config, path / name, said.append) for name, config in searches.items()}
        given, say = self._rival_inputs(found[SEARCH], searches[SEARCH]), _unless_said(said)
        rows = [*self._rivals(given, say), *_searched(found, given)]
        outcomes: dict[str, Tensor] = {}
        for row, _, _ in rows:
            right = None if row.scored is None else test_outcomes(row.scored, given.data)
            if right is not None:
                outcomes[row.name] = right
        config = searches[SEARCH]
        content = {
            "arch": config.archs[0],
            "data": config.data,
            "seed": config.seed,
            "evaluations": config.evaluations,
            "image_passes": round(config.evaluations * given.passes_per_evaluation),
            "rows": [
                {**row.to_json(), "image_passes": round(row.evaluations * passes), "seconds": round(seconds, 3)}
                for row, passes, seconds in rows
            ],
            "disagreements": disagreements([row for row, _, _ in rows]),
            "remarks": said,
        }
        write_tensors(path / OUTCOMES, outcomes)
        write_text(path / CELL, json_text(known_numbers(content), indent=1) + "\n")

    def _rival_inputs(self, found: Found, config: SearchConfig) -> RivalInputs:
        """What the rivals of a finished search may use, with as many checkpoints, closest first, as they could evaluate."""
        prepared = prepare(config)
        run = Run(config, prepared, RunFolder.open(found.run), RaySession(), None, lambda _: None)
        ready = make_ready(run, prepared.searches[0])
        given = ready.source.rival_inputs(ready.fitness, config.evaluations)
        records = list(given.records)
        if len(records) > given.tries:
            place = {name: i for i, name in enumerate(given.closest)}
            kept = sorted(range(len(records)), key=lambda i: place.get(records[i].data, len(place)))[: given.tries]
            given = replace(given, records=[records[i] for i in sorted(kept)], order=None)
        return replace(given, recipe=Recipe(**self.recipe), data_dir=config.data_dir)

    def _rivals(self, given: RivalInputs, say: Callable[[str], None]) -> Iterator[tuple[Row, float, float]]:
        """The row of each rival that has candidates, its image passes an evaluation, and its seconds."""
        for name in self.rivals:
            began = time.perf_counter()
            row = rival_row(name, given, say=say)
            if row is None:
                say(f"{name} has no candidates here")
            else:
                yield replace(row, name=name), given.passes_per_evaluation, time.perf_counter() - began


def _searched(found: dict[str, Found], given: RivalInputs) -> Iterator[tuple[Row, float, float]]:
    """The row of each search, that named `search` and its first population last."""
    for name, one in [*((n, f) for n, f in found.items() if n != SEARCH), (SEARCH, found[SEARCH])]:
        passes = replace(given.fitness, batch_norm=one.details.batch_norm).images / given.fitness.cost
        if name == SEARCH:
            yield from ((row, passes, 0.0) for row in one.rows if row.name == GENERATED)
        yield replace(one.row("search"), name=name), passes, one.details.seconds


def _unless_said(said: list[str]) -> Callable[[str], None]:
    return lambda text: None if text in said else said.append(text)
