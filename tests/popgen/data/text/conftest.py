"""Small tables of texts, written by the tests themselves."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from text_rows import Row

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write rows as a file of the folder of the test; its suffix says how."""

    def to_file(name: str, rows: Iterable[Row]) -> Path:
        rows, path = list(rows), tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = gzip.open if name.endswith(".gz") else open
        if ".parquet" in name:
            from pyarrow import Table, parquet

            parquet.write_table(Table.from_pylist(rows), path)
        elif ".jsonl" in name:
            with opened(path, "wt", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            with opened(path, "wt", encoding="utf-8", newline="") as file:
                table = csv.DictWriter(file, list(rows[0]), delimiter="\t" if ".tsv" in name else ",")
                table.writeheader()
                table.writerows(rows)
        return path

    return to_file
