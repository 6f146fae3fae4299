"""The report of a bench: the verdict, the rows of each architecture with their intervals, each data set, what failed."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from popgen import __version__
from popgen.bench.summary import ALL
from popgen.configs.bench import BenchConfig, load_bench
from popgen.errors import BrokenFile, brief
from popgen.json_text import parse_json
from popgen.report import Block, Chart, Code, Facts, Figure, Paragraph, Report, Section, Series, Table

_ERROR_LENGTH = 600


def bench_report(path: str) -> Report:
    """Read a bench folder as a report.

    Raises:
        NotFound: no bench there.
        BrokenFile: results.json or results.csv is not what popgen wrote.
    """
    folder = Path(path)
    config = load_bench(folder / "bench.yaml")
    try:
        found = parse_json((folder / "results.json").read_text()) if (folder / "results.json").is_file() else {}
        cells = _cells(folder / "results.csv")
        archs = list(dict.fromkeys(row["arch"] for row in found.get("rows", [])))
        sections = (
            Section("What was asked", (_asked(config),)),
            Section("Results", _results(config, found, archs)),
            Section("Data sets", tuple(_data_sets(config, cells))),
            Section("Failures", tuple(_failures(found.get("errors", {})))),
            Section("To do it again", tuple(_again(config))),
        )
        lines = tuple(_verdict(config, found.get("rows", []), archs)) + tuple(found.get("remarks", []))
        counts = (len(cells), len(found.get("errors", {})))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenFile(f"the results in {path} cannot be read", brief(error), "Resume the bench.") from error
    figures = (
        Figure(f"{counts[0]:,}", "cells done", f"of {len(config.archs) * len(config.data) * len(config.seeds):,}"),
        Figure(
            f"{len(config.archs)} × {len(config.data)}", "architectures × data sets", f"{len(config.seeds)} seeds each"
        ),
        Figure(f"{counts[1]:,}", "failed cells"),
    )
    return Report("bench", config.name, lines, figures, sections, __version__)


def _cells(file: Path) -> dict[tuple[str, str, str], dict[str, float]]:
    """The test score of each row by architecture, data set and seed; none where the bench is not finished."""
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    if file.is_file():
        for row in csv.DictReader(io.StringIO(file.read_text())):
            found.setdefault((row["arch"], row["data"], row["seed"]), {})[row["row"]] = float(row["test_score"])
    return found


def _verdict(config: BenchConfig, rows: list[dict[str, Any]], archs: list[str]) -> Iterator[str]:
    """The subject against the row with the highest mean of all, and how many rows it is above and below."""
    if not rows:
        yield f"The bench {config.name} is not finished: it has no results.json yet."
        return
    whole = ALL if ALL in archs else archs[0]
    mine = [row for row in rows if row["arch"] == whole]
    others = [row for row in mine if row["difference"] is not None]
    if not others:
        yield f"The bench {config.name} has no rows beside {_words(config.subject)}."
        return
    best = max(others, key=lambda row: float(row["test"]["mean"]))
    difference = best["difference"]
    yield (
        f"Over all cells {_words(config.subject)} less {_words(best['row'])}, the row with the highest mean, is {_interval(difference['mean'])}: "
        f"{difference['wins']} wins, {difference['ties']} ties, {difference['losses']} losses."
    )
    clear = [row for row in others if row["difference"]["mean"]["low"] is not None]
    above = [_words(row["row"]) for row in clear if row["difference"]["mean"]["low"] > 0]
    below = [_words(row["row"]) for row in clear if row["difference"]["mean"]["high"] < 0]
    yield f"Its 95% interval is above {len(above)} of {len(others)} rows" + (
        f", and below {', '.join(below)}." if below else ", and below none."
    )


def _results(config: BenchConfig, found: dict[str, Any], archs: list[str]) -> tuple[Block, ...]:
    if not archs:
        return (Paragraph("The tables are made when the bench is finished."),)
    tables = tuple(_table(config, [row for row in found["rows"] if row["arch"] == arch], arch) for arch in archs)
    return (Paragraph(str(found["facts"])), *tables)


def _table(config: BenchConfig, rows: list[dict[str, Any]], arch: str) -> Table:
    lines = []
    for row in rows:
        test, difference, optimism = row["test"], row["difference"], row["val_optimism"]
        counts = "" if difference is None else "/".join(str(difference[key]) for key in ("wins", "ties", "losses"))
        lines.append(
            (
                _words(row["row"]),
                f"{row['image_passes']:,.0f}",
                f"{row['val_score']:.3f}",
                "" if optimism is None else f"{optimism:.3f}".replace("-0.000", "0.000"),
                f"{test['mean']:.3f}",
                "" if difference is None else _interval(difference["mean"]),
                counts,
            )
        )
    return Table(
        "All architectures" if arch == ALL else arch,
        ("", "image passes", "val", "optimism", "test", f"{_words(config.subject)} less row", "wins/ties/losses"),
        tuple(lines),
        strong=tuple(i for i, row in enumerate(rows) if row["row"] == config.subject),
    )


def _data_sets(config: BenchConfig, cells: dict[tuple[str, str, str], dict[str, float]]) -> Iterator[Block]:
    """The mean test score of every row on each data set, and the subject against the best of the other rows."""
    if not cells:
        yield Paragraph("No cell is done.")
        return
    rows = [name for name in config.rows if any(name in scores for scores in cells.values())]
    pairs = [
        (key, scores[config.subject], max((value, name) for name, value in scores.items() if name != config.subject))
        for key, scores in cells.items()
        if config.subject in scores and len(scores) > 1
    ]
    if pairs:
        yield _against(config, pairs)
    for arch in config.archs:
        lines = []
        for row in rows:
            by_data = [
                [s[row] for (a, d, _), s in cells.items() if (a, d) == (arch, data) and row in s]
                for data in config.data
            ]
            lines.append((_words(row), *(f"{statistics.fmean(one):.3f}" if one else "-" for one in by_data)))
        yield Table(f"{arch}: test score, mean over seeds", ("", *config.data), tuple(lines), is_detail=True)


def _against(config: BenchConfig, pairs: list[tuple[tuple[str, str, str], float, tuple[float, str]]]) -> Chart:
    points = tuple((best, own) for _, own, (best, _) in pairs)
    ends = (min(map(min, points)), max(map(max, points)))
    above = sum(y > x for x, y in points)
    who = _words(config.subject)
    hints = tuple(
        f"{a} on {d}, seed {s}: {own:.3f}, {_words(name)} {best:.3f}" for (a, d, s), own, (best, name) in pairs
    )
    return Chart(
        f"{who} against the best other row of each cell",
        f"A dot for each of {len(pairs)} cells: the highest test score of the other rows, and that of {who}. {above} lie above the line "
        "of equal scores. The best of many test scores is flattered.",
        "highest test score of the others",
        f"test score of {who}",
        (
            Series("equal scores", ((ends[0], ends[0]), (ends[1], ends[1])), "line", hints=("", "")),
            Series("cells", points, role="search", hints=hints),
        ),
        is_square=True,
    )


def _asked(config: BenchConfig) -> Facts:
    return Facts(
        (
            ("architectures", ", ".join(config.archs)),
            ("data sets", ", ".join(config.data)),
            ("seeds", ", ".join(map(str, config.seeds))),
            *((f"search.{name}", str(value)) for name, value in config.search.items()),
            *((f"further search {_words(name)}", str(value)) for name, value in config.further.items()),
        )
    )


def _failures(errors: dict[str, str]) -> Iterator[Block]:
    if not errors:
        yield Paragraph("No cell failed.")
    for name, error in errors.items():
        yield Paragraph(f"{name}:")
        yield Code(str(error)[:_ERROR_LENGTH])


def _again(config: BenchConfig) -> Iterator[Block]:
    yield Paragraph("Save these lines as bench.yaml.")
    yield Code(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).rstrip())
    yield Code("popgen bench bench.yaml")


def _interval(found: dict[str, Any]) -> str:
    """A difference with its interval."""
    ends = "" if found["low"] is None else f" [{found['low']:+.3f}, {found['high']:+.3f}]"
    return f"{found['mean']:+.3f}{ends}"


def _words(row: str) -> str:
    return row.replace("_", " ")
