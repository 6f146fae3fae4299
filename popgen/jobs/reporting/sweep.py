"""The report of a sweep: its verdict, a row for each architecture and data set, each search beside its rivals, and failures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from popgen import __version__
from popgen.configs.sweep import SweepConfig, load_sweep
from popgen.errors import BrokenFile, brief
from popgen.jobs.reporting.rivals import CLEAR, CONTROLS, SEARCH, Score, text, with_error
from popgen.json_text import parse_json
from popgen.report import Block, Chart, Code, Facts, Figure, Mark, Paragraph, Report, Section, Series, Table

_ERROR_LENGTH = 600
_RIVALS = ("best_zoo", "generated_best")  # the columns of a sweep's table


def sweep_report(path: str) -> Report:
    """Read a sweep folder as a report.

    Raises:
        NotFound: no sweep there.
        BrokenFile: results.json or a result.json is not what popgen wrote.
    """
    folder = Path(path)
    config = load_sweep(folder / "sweep.yaml")
    rows = _rows(folder / "results.json")
    searches = [one for row in rows for one in row["searches"]]
    tables = {
        one["run"]: _scores(folder / "runs" / Path(one["run"]).name / "result.json")
        for one in searches
        if "error" not in one
    }
    failed = [(row, one) for row in rows for one in row["searches"] if "error" in one]
    lines = tuple(_verdict(config, rows, list(tables.values())))
    figures = (
        Figure(f"{len(searches) - len(failed):,}", "searches done", f"of {len(config.searches()):,}"),
        Figure(
            f"{len(config.archs)} × {len(config.data)}", "architectures × data sets", f"{len(config.seeds)} seeds each"
        ),
        Figure(f"{len(failed):,}", "failed searches"),
    )
    sections = (
        Section("What was asked", (_asked(config),)),
        Section("Results", tuple(_results(rows))),
        Section("Search against rivals", tuple(_against(tables))),
        Section("Searches", (_each(rows),) if searches else (Paragraph("No search is finished."),)),
        Section("Failures", tuple(_failures(failed))),
        Section("To do it again", tuple(_again(config))),
    )
    return Report("sweep", config.name, lines, figures, sections, __version__)


def _rows(file: Path) -> list[dict[str, Any]]:
    """The rows of results.json, none where the sweep is not finished."""
    if not file.is_file():
        return []
    try:
        rows = [dict(row) for row in parse_json(file.read_text(encoding="utf-8"))["rows"]]
        for row in rows:
            row["arch"], row["data"] = str(row["arch"]), str(row["data"])
            row["searches"] = [{**one, "run": str(one["run"])} for one in row["searches"]]
            for name in ("search", "search_std", *_RIVALS):
                row[name] = None if row.get(name) is None else float(row[name])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenFile(f"{file} cannot be read", brief(error), "Resume the sweep: it is written anew.") from error
    return rows


def _scores(file: Path) -> list[Score]:
    """The table of one search, empty where its folder is not here."""
    if not file.is_file():
        return []
    try:
        return [Score.of(row) for row in parse_json(file.read_text(encoding="utf-8"))["results"][0]["rows"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise BrokenFile(f"{file} cannot be read", brief(error), "Resume the sweep.") from error


def _verdict(config: SweepConfig, rows: list[dict[str, Any]], tables: list[list[Score]]) -> Iterator[str]:
    """Wins, ties and losses of single searches against their strongest rival, and the mean difference."""
    if not rows:
        yield f"The sweep {config.name} is not finished: it has no results.json yet."
        return
    pairs = [pair for table in tables if (pair := _pair(table)) is not None]
    if not pairs:
        yield f"The sweep {config.name} has no searches with rivals to compare."
        return
    yield f"Against the strongest rival by validation loss, {_counts(pairs)}"
    plain = [pair for table in tables if (pair := _pair(table, True)) is not None]
    if plain:
        yield f"Against the strongest one that needs no generator, {_counts(plain)}"
    yield (
        f"A clear win or loss is a difference of more than {CLEAR:g} standard errors of the two test scores. The errors of the mean "
        "differences are those of the mean over the searches."
    )


def _counts(pairs: list[tuple[Score, Score]]) -> str:
    """Wins, ties and losses, and the mean difference, in words."""
    wins = sum(_clear(own, rival) > 0 for own, rival in pairs)
    losses = sum(_clear(own, rival) < 0 for own, rival in pairs)
    differences = [(own.test or 0.0) - (rival.test or 0.0) for own, rival in pairs]
    error = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else None
    spread = "" if error is None else f" ± {100 * error:.2f}"
    return (
        f"{len(pairs)} searches have {wins} clear wins, {len(pairs) - wins - losses} ties and {losses} clear losses; the mean "
        f"difference is {100 * statistics.fmean(differences):+.2f}{spread} points."
    )


def _pair(table: list[Score], plain: bool = False) -> tuple[Score, Score] | None:
    """The search and its strongest rival by validation loss, where both have test scores.

    Args:
        plain: leave the generated population out.
    """
    own = next((one for one in table if one.name == SEARCH and one.test is not None), None)
    rivals = [
        one
        for one in table
        if one.name not in (SEARCH, *CONTROLS)
        and one.test is not None
        and one.val_loss is not None
        and not (plain and one.role == "generated")
    ]
    if own is None or not rivals:
        return None
    return own, min(rivals, key=lambda one: one.val_loss or 0.0)


def _clear(own: Score, rival: Score) -> int:
    """1 for a clear win, -1 for a clear loss, 0 for neither or where errors are not known."""
    if own.test_error is None or rival.test_error is None:
        return 0
    difference = (own.test or 0.0) - (rival.test or 0.0)
    is_clear = abs(difference) > CLEAR * math.hypot(own.test_error, rival.test_error)
    return (1 if difference > 0 else -1) if is_clear else 0


def _asked(config: SweepConfig) -> Block:
    return Facts(
        (
            ("architectures", ", ".join(config.archs)),
            ("data sets", ", ".join(config.data)),
            ("seeds", ", ".join(map(str, config.seeds))),
            *((f"search.{name}", str(value)) for name, value in config.search.items()),
        )
    )


def _results(rows: list[dict[str, Any]]) -> Iterator[Block]:
    if not rows:
        yield Paragraph("The table is made when the sweep is finished.")
        return
    cells, marks = [], []
    for row in rows:
        mean, spread = row["search"], row["search_std"]
        cells.append(
            (
                f"{row['arch']} on {row['data']}",
                str(row.get("done", "-")),
                *(text(row[name]) for name in _RIVALS),
                with_error(mean, spread),
            )
        )
        marks.append(None if mean is None else Mark(mean, mean - (spread or 0), mean + (spread or 0), "search"))
    columns = ("", "seeds done", *_RIVALS, SEARCH)
    title = "Test accuracy, means over the seeds that are done ± standard deviation"
    yield Table(title, columns, tuple(cells), marks=tuple(marks), marked=SEARCH)


def _against(tables: dict[str, list[Score]]) -> Iterator[Block]:
    """Each search's test score against that of its strongest rival."""
    pairs = [(Path(run).name, *pair) for run, table in tables.items() if (pair := _pair(table)) is not None]
    if not pairs:
        yield Paragraph("No finished search has rivals, or the folders of the searches are not here.")
        return
    points = tuple((rival.test or 0.0, own.test or 0.0) for _, own, rival in pairs)
    ends = (min(map(min, points)), max(map(max, points)))
    above = sum(y > x for x, y in points)
    yield Chart(
        "Search against its strongest rival",
        f"A dot for each of {len(pairs)} searches: the test score of its strongest rival by validation loss, and its own. "
        f"{above} lie above the line of equal scores.",
        "test score of the strongest rival",
        "test score of the search",
        (
            Series("equal scores", ((ends[0], ends[0]), (ends[1], ends[1])), "line", hints=("", "")),
            Series(
                "searches",
                points,
                role="search",
                hints=tuple(
                    f"{name}: {text(own.test)} against {text(rival.test)} of {rival.name}" for name, own, rival in pairs
                ),
            ),
        ),
        is_square=True,
    )


def _each(rows: list[dict[str, Any]]) -> Table:
    """Every search with its folder."""

    def score(one: dict[str, Any], split: str) -> str:
        value = one.get(f"{split}_accuracy", one.get(f"{split}_score"))
        return text(value if isinstance(value, float) else None)

    cells = tuple(
        (Path(one["run"]).name, "failed" if "error" in one else "done", score(one, "val"), score(one, "test"))
        for row in rows
        for one in row["searches"]
    )
    return Table(
        "Every search; popgen report makes a report of each folder under runs/",
        ("run", "", "val", "test"),
        cells,
        names=2,
    )


def _failures(failed: list[tuple[dict[str, Any], dict[str, Any]]]) -> Iterator[Block]:
    if not failed:
        yield Paragraph("No search failed.")
    for row, one in failed:
        yield Paragraph(f"{row['arch']} on {row['data']}, seed {one.get('seed')}:")
        yield Code(str(one["error"])[:_ERROR_LENGTH])


def _again(config: SweepConfig) -> Iterator[Block]:
    yield Paragraph("Save these lines as sweep.yaml.")
    yield Code(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).rstrip())
    yield Code("popgen sweep sweep.yaml")
