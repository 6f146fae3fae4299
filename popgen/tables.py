"""Reads tables in CSV as spreadsheets of any country write them."""

from __future__ import annotations

import codecs
import csv
import io
from pathlib import Path

from popgen.errors import BadInput, BrokenFile, brief


def read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read the column names and the rows of a table, as spreadsheets of any country write them.

    The separator is the comma, semicolon or tab that is most frequent in the first line; a line `sep=;` of Excel may
    stand before it. The text is UTF-8, or UTF-16 with its mark. Column names are in lower case, and fields have no
    blanks around them; a field that a row lacks is "".

    Raises:
        BrokenFile: the file cannot be read as a table.
        BadInput: two columns have the same name.
    """
    try:
        lines = list(io.StringIO(_decoded(path.read_bytes()), newline=""))
        separator = ""
        if lines and lines[0].lower().startswith("sep="):
            separator = lines.pop(0).strip()[4:5]
        head = lines[0] if lines else ""
        separator = separator or max(",;\t", key=head.count)
        rows = list(csv.reader(lines, delimiter=separator))
    except (OSError, UnicodeError, csv.Error, TypeError) as error:
        raise BrokenFile(
            f"{path} cannot be read as CSV", brief(error), "Save it as CSV in UTF-8 (Excel: CSV UTF-8)."
        ) from error
    columns = [name.strip().lower() for name in (rows[0] if rows else [])]
    double = sorted({name for name in columns if name and columns.count(name) > 1})
    if double:
        raise BadInput(f"{path} has two columns called {double[0]!r}", "case does not count", "Rename one of them.")
    filled = [row for row in rows[1:] if any(field.strip() for field in row)]
    return columns, [
        {name: (row[i].strip() if i < len(row) else "") for i, name in enumerate(columns)} for row in filled
    ]


def _decoded(content: bytes) -> str:
    """The text of a table's file; raises UnicodeError if it is no text in UTF-8 or UTF-16."""
    if content[:4] == b"PK\x03\x04":
        raise UnicodeError("it is an Excel workbook or another zip file, and no text")
    if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return content.decode("utf-16")
    return content.decode("utf-8-sig")
