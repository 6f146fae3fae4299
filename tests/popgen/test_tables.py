"""Tables are read as spreadsheets of any country write them, or the error says how to save them."""

from __future__ import annotations

from pathlib import Path

import pytest

from popgen.errors import BadInput, BrokenFile
from popgen.tables import read_csv

ROWS = [{"file": "a;b,c", "note": "two\nlines"}, {"file": "d", "note": ""}]


@pytest.mark.parametrize(
    "content",
    [
        b'file,note\n"a;b,c","two\nlines"\nd\n',
        b'\xef\xbb\xbfFile ; NOTE\r\n"a;b,c";"two\nlines"\r\n d ; \r\n;\r\n',
        b'sep=;\r\nfile;note\r\n"a;b,c";"two\nlines"\r\nd;',
        'file\tnote\n"a;b,c"\t"two\nlines"\nd\t\n\n'.encode("utf-16"),
    ],
)
def test_what_spreadsheets_write(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "it.csv").write_bytes(content)
    assert read_csv(tmp_path / "it.csv") == (["file", "note"], ROWS)


def test_a_table_without_rows(tmp_path: Path) -> None:
    for content, columns in [(b"", []), (b"file", ["file"]), (b"sep=;\n", [])]:
        (tmp_path / "it.csv").write_bytes(content)
        assert read_csv(tmp_path / "it.csv") == (columns, [])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"PK\x03\x04\x14\x00", "it is an Excel workbook"),
        ("gr\u00fcppe".encode("latin-1"), "UnicodeDecodeError"),
        (b"\xff\xfea", "UnicodeDecodeError"),
        (b"file\n" + b"x" * 200_000, "field larger than field limit"),
    ],
    ids=["xlsx", "latin-1", "half a character", "endless"],
)
def test_what_is_no_table(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "it.csv").write_bytes(content)
    with pytest.raises(BrokenFile) as caught:
        read_csv(tmp_path / "it.csv")
    assert text in caught.value.why and caught.value.todo == "Save it as CSV in UTF-8 (Excel: CSV UTF-8)."
    with pytest.raises(BrokenFile, match="cannot be read as CSV"):
        read_csv(tmp_path)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "it.csv").write_text("File,file\n")
    with pytest.raises(BadInput, match="has two columns called 'file'"):
        read_csv(tmp_path / "it.csv")
