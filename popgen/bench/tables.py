"""A bench as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from popgen.bench.summary import BenchRow, Cell

COLUMNS = (
    "arch",
    "data",
    "seed",
    "row",
    "evaluations",
    "image_passes",
    "seconds",
    "val_score",
    "val_optimism",
    "test_score",
)


def shown(row: BenchRow) -> list[str]:
    """The texts of a row: its name, image passes, scores, optimism, difference from the subject, wins, ties and losses."""
    difference = row.difference
    return [
        row.row.replace("_", " "),
        f"{row.image_passes:,.0f}",
        f"{row.val_score:.3f}",
        "" if row.val_optimism is None else f"{row.val_optimism:.3f}".replace("-0.000", "0.000"),
        row.test.text(),
        "" if difference is None else difference.mean.text(signed=True),
        "" if difference is None else f"{difference.wins}/{difference.ties}/{difference.losses}",
    ]


def headings(subject: str) -> list[str]:
    """The columns' headings of `shown`."""
    return [
        "row",
        "image passes",
        "val",
        "optimism",
        "test",
        f"{subject.replace('_', ' ')} less row",
        "wins/ties/losses",
    ]


def markdown(title: str, facts: str, rows: Sequence[BenchRow], subject: str) -> str:
    """The tables of all architectures, with `facts` in front of them."""
    parts = [f"# {title}", facts]
    for arch in dict.fromkeys(row.arch for row in rows):
        lines = [headings(subject), *(shown(row) for row in rows if row.arch == arch)]
        body = [f"| {' | '.join(line)} |" for line in lines]
        rule = "|---|" + "---:|" * (len(lines[0]) - 1)
        parts.append("\n".join([f"## {arch}", "", body[0], rule, *body[1:]]))
    return "\n\n".join(parts) + "\n"


def as_csv(cells: Sequence[Cell]) -> str:
    """Every row of every cell, with the columns COLUMNS.

    >>> as_csv([]).strip() == ",".join(COLUMNS)
    True
    """
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(COLUMNS)
    for cell in cells:
        for one in cell.entries.values():
            given = {**vars(cell), **vars(one)}
            writer.writerow([given[name] for name in COLUMNS])
    return written.getvalue()
