"""The summary of cells and its tables."""

from __future__ import annotations

import csv
import io

import numpy as np

from popgen.bench.summary import ALL, Cell, Entry, summarise
from popgen.bench.tables import as_csv, markdown


def entry(row: str, test: float, wrong: int = 0) -> Entry:
    right = np.ones(200, np.uint8)
    right[:wrong] = 0
    return Entry(row, 10, 3000, 0.5, test + 0.01, test, 0.02 if row == "search" else None, right)


def cells() -> list[Cell]:
    return [
        Cell(
            arch,
            data,
            seed,
            {
                "weak": entry("weak", 0.7, 60),
                "equal": entry("equal", 0.9, 20),
                "search": entry("search", 0.9, 20),
            },
        )
        for arch in ("a", "b")
        for data in ("x", "y", "z")
        for seed in (0, 1)
    ]


def test_differences_are_paired_and_counted_by_data_set() -> None:
    rows = {(one.arch, one.row): one for one in summarise(cells(), ["weak", "equal", "search", "absent"], "search")}
    assert set(rows) == {(arch, row) for arch in ("a", "b", ALL) for row in ("weak", "equal", "search")}
    weak, equal = rows["a", "weak"].difference, rows[ALL, "equal"].difference
    assert weak is not None and equal is not None and rows["a", "search"].difference is None
    assert (weak.wins, weak.ties, weak.losses) == (3, 0, 0) and round(weak.mean.mean, 6) == 0.2
    assert (equal.wins, equal.ties, equal.losses) == (0, 6, 0)
    assert rows["a", "search"].val_optimism == 0.02 and rows["a", "weak"].val_optimism is None


def test_a_row_that_some_cells_lack_is_compared_where_it_is() -> None:
    some = cells()
    some[0] = Cell("a", "x", 0, {"search": some[0].entries["search"]})
    rows = {(one.arch, one.row): one for one in summarise(some, ["weak", "search"], "search")}
    assert rows["a", "weak"].cells == 5 and rows["a", "search"].cells == 6


def test_markdown_and_csv_have_every_row() -> None:
    text = markdown("mine", "Facts.", summarise(cells(), ["weak", "search"], "search"), "search")
    assert text.startswith("# mine\n\nFacts.\n\n## a\n") and text.count("| weak | 3,000 |") == 3
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1
    read = list(csv.DictReader(io.StringIO(as_csv(cells()))))
    assert len(read) == 36 and read[0]["row"] == "weak" and float(read[0]["test_score"]) == 0.7
