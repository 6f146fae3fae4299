"""Tables are read whatever way they are written, and broken ones are refused by line."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from popgen.data.text import table as tables
from popgen.data.text.table import read_table, stem_of
from popgen.errors import BadInput, BrokenFile, Offline, PopgenError

ROWS = [
    {"text": 'He said "no", twice;\tthen left.', "label": "a"},
    {"text": "Zwölf Boxkämpfer — 十二", "label": "b"},
]


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz", "x.csv", "x.CSV.gz", "x.parquet"])
def test_every_way_of_writing_is_read_alike(name: str, write: Any) -> None:
    written = write(name.lower(), ROWS)
    path = written.rename(written.with_name(name))
    assert read_table(path) == {"text": [row["text"] for row in ROWS], "label": ["a", "b"]}
    assert stem_of(path) == "x"


def test_cells_of_several_lines_and_other_separators(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes('\ufefftext;label\r\n"two\nlines; one cell";a\r\n\r\nb,c;d\r\n'.encode())
    assert read_table(path) == {"text": ["two\nlines; one cell", "b,c"], "label": ["a", "d"]}


def test_tabs_need_no_quotes(tmp_path: Path, write: Any) -> None:
    path = tmp_path / "x.tsv"
    path.write_text('text\tlabel\n"open quote\ta\n5" disk, he said "yes"\tb\n', encoding="utf-8")
    assert read_table(path)["text"] == ['"open quote', '5" disk, he said "yes"']
    quoted = [{"text": 'a "quoted" word', "label": "a"}]
    assert read_table(write("y.tsv.gz", quoted)) == {"text": ['a "quoted" word'], "label": ["a"]}


def test_keys_that_a_line_lacks_are_none(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "one"}\n\n{"label": 2, "text": "two", "more": [1]}\n', encoding="utf-8")
    assert read_table(path) == {"text": ["one", "two"], "label": [None, 2], "more": [None, [1]]}


@pytest.mark.parametrize(
    ("name", "content", "error", "text"),
    [
        ("x.txt", b"", BadInput, "is no table of texts by its name\nit ends in none of .jsonl, .csv, .tsv, .parquet"),
        ("x.parquet.gz", b"", BadInput, "all but .parquet may have .gz behind"),
        ("x.jsonl", b'{"text": "a"}\n{"text": ', BrokenFile, "line 2 of .*x.jsonl cannot be used\nJSONDecodeError"),
        ("x.jsonl", b"[" * 100_000, BrokenFile, "line 1 of .* cannot be used\nRecursionError"),
        ("x.jsonl", b'\n["a", 1]\n', BrokenFile, r"line 2 of .*\nit is a list, and must be an object"),
        ("x.jsonl", b'{"text": "caf\xe9"}', BrokenFile, "x.jsonl is not UTF-8\nUnicodeDecodeError"),
        ("x.jsonl.gz", b"no gzip", BrokenFile, "x.jsonl.gz cannot be read\nBadGzipFile"),
        (
            "x.csv.gz",
            gzip.compress(b"text,label\n" * 999, mtime=0)[:-9],
            BrokenFile,
            "x.csv.gz cannot be read\nEOFError",
        ),
        (
            "x.csv",
            b"text,label\na,b,c\n",
            BrokenFile,
            "row 1 of .*x.csv cannot be used\nit has 3 cells, and there are 2 columns",
        ),
        ("x.csv", b"text,label\n\n" + b'"a"b,c\n', BrokenFile, "x.csv is no CSV\nError: ',' expected after '\"'"),
        ("x.csv", b"text,label\n" + b"a" * 140_000 + b",b\n", BrokenFile, r"x.csv is no CSV\nError: field larger"),
        ("x.csv", b"text,text\na,b\n", BrokenFile, "two columns of one name\nits first row is text, text"),
        ("x.tsv", b"text\tlabel\na b\n", BrokenFile, "row 1 of .*x.tsv cannot be used\nit has 1 cells"),
        ("x.parquet", b"PAR1", BrokenFile, "x.parquet is no readable parquet\nArrowInvalid"),
    ],
)
def test_files_that_are_refused(name: str, content: bytes, error: type[PopgenError], text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=text):
        read_table(tmp_path / name)


def test_a_file_that_is_too_large_is_refused_while_it_is_read(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_BYTES", 30)
    for name in ("x.jsonl.gz", "x.csv", "x.parquet"):
        with pytest.raises(BadInput, match=f"{name} holds more than 0 GiB"):
            read_table(write(name, ROWS))


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(BrokenFile, match="x.csv cannot be read\nIsADirectoryError"):
        read_table(tmp_path / "x.csv")


def test_parquet_needs_its_library(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("x.parquet", ROWS)
    monkeypatch.setattr(tables, "find_spec", lambda _: None)
    with pytest.raises(Offline, match="cannot be read\nthe pyarrow library is not installed\npip install pyarrow"):
        read_table(path)
