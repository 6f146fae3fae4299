"""All that a run folder holds of one architecture, read from its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popgen.configs.search import SearchConfig
from popgen.errors import BrokenFile, PopgenError, brief
from popgen.jobs.reporting.predictions import Predictions, best_predictions
from popgen.jobs.reporting.rivals import SEARCH, Score
from popgen.jobs.reporting.trace import Trace, read_trace
from popgen.jobs.searching.folder import RunFolder
from popgen.json_text import parse_json


@dataclass(frozen=True)
class Searched:
    """All that a run folder holds of one architecture. `scores` and `details` are empty where the search is not finished."""

    arch: str
    trace: Trace
    scores: list[Score]
    details: dict[str, Any]
    predictions: Predictions | str  # or why there are none
    is_stale: bool  # the table is of an earlier session, and evaluations were added to the history since

    @property
    def own(self) -> Score | None:
        """The row of the search."""
        return next((one for one in self.scores if one.name == SEARCH), None)

    @property
    def tuned(self) -> str:
        """What training after the search gained, in words; "" where there was none."""
        found = self.details.get("tuned")
        return str(found.get("text", "")) if isinstance(found, dict) else ""

    @property
    def spent(self) -> int:
        """Evaluations with those that were spent before the search, such as on ranking a zoo's experts."""
        return self.trace.spent if self.own is None else max(self.own.evaluations, self.trace.spent)


def read_searched(
    folder: RunFolder, arch: str, config: SearchConfig, recorded: dict[str, Any], result: dict[str, Any] | None
) -> Searched:
    """Read the search of one architecture; `result` is its part of result.json.

    Raises:
        BrokenFile: a row of the table is not what popgen wrote.
        SearchError: the history is broken, or another process writes it.
    """
    trace = read_trace(folder, arch)
    scores = [] if result is None else [Score.of(row) for row in result["rows"]]
    details = {} if result is None else result["details"]
    predictions: Predictions | str
    try:
        predictions = best_predictions(folder.best(arch), config, recorded.get("data_sha256"))
    except PopgenError as error:
        predictions = f"{error.what}: {error.why}" if error.why else error.what
    is_stale = result is not None and details.get("looks", len(trace.records)) != len(trace.records)
    return Searched(arch, trace, scores, details, predictions, is_stale)


def read_results(file: Path) -> dict[str, dict[str, Any]]:
    """The content of result.json by architecture; empty where there is none.

    Raises:
        BrokenFile: it is not what popgen wrote.
    """
    if not file.is_file():
        return {}
    try:
        found = {str(one["arch"]): dict(one) for one in parse_json(file.read_text(encoding="utf-8"))["results"]}
        for one in found.values():
            one["rows"], one["details"] = [dict(row) for row in one["rows"]], dict(one["details"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenFile(f"{file} cannot be read", brief(error), "Resume the run: it is written anew.") from error
    return found
