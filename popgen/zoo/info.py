"""Reads zoo.json without importing torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from popgen import __version__
from popgen.errors import BrokenFile
from popgen.json_text import parse_json

FORMAT, ARCHIVE_FORMAT = 1, 2  # an archive is a zoo with coded shards
RESTORE = "Restore it, or build the zoo again."


def read_info(path: Path) -> dict[str, Any]:
    """The content of zoo.json.

    Raises:
        BrokenFile: the file is not JSON, or has a format that this version does not read.
    """
    try:
        info = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BrokenFile(f"{path} cannot be read", str(error), RESTORE) from error
    if not isinstance(info, dict) or info.get("format") not in (FORMAT, ARCHIVE_FORMAT) or "name" not in info:
        found_format = info.get("format") if isinstance(info, dict) else type(info).__name__
        raise BrokenFile(
            f"{path} does not have the format of a zoo that popgen {__version__} reads",
            f"format {found_format!r}, needed {FORMAT}",
            "Update popgen.",
        )
    if info["format"] == ARCHIVE_FORMAT and not isinstance(info.get("archive"), dict):
        raise BrokenFile(f"{path} does not say how the archive was made", "it has no entry `archive`", RESTORE)
    return info
