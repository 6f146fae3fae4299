"""The names of zoos, and of the architectures in each, without importing torch."""

from __future__ import annotations

from pathlib import Path

from popgen.errors import NotFound, near_matches
from popgen.hub.download import hub_folder
from popgen.hub.kinds import ZOO
from popgen.hub.names import is_hub_name
from popgen.json_text import parse_json
from popgen.refs import asset, asset_names


def zoo_folder(folder_or_name: Path | str) -> Path:
    """Return the folder of a zoo that is given as a path, by the name of one that the package ships, or as hub:OWNER/NAME[@REVISION].

    Raises:
        NotFound: there is no such zoo.
        BadInput, Offline, BrokenFile: see `popgen.hub.download.hub_folder`.
    """
    if is_hub_name(folder_or_name):
        return hub_folder(str(folder_or_name), ZOO)
    folder = Path(folder_or_name)
    if (folder / "zoo.json").is_file():
        return folder
    packaged = asset("zoos", str(folder_or_name))
    if packaged is None:
        built_here = [str(p.parent) for p in Path().glob("zoos/*/zoo.json")]
        known = near_matches(str(folder_or_name), [*asset_names("zoos"), *built_here])
        why = f"no zoo.json in that folder, and no packaged zoo of that name; known: {known}"
        raise NotFound(f"there is no zoo {str(folder_or_name)!r}", why, "popgen zoo build SPEC.yaml makes one.")
    return packaged


def archs_of(folder_or_name: Path | str) -> list[str] | None:
    """Names of the architectures in a zoo; None if its index cannot be read.

    Raises:
        NotFound: there is no such zoo.

    >>> "cnn-s" in archs_of("digits")
    True
    """
    file = zoo_folder(folder_or_name) / "index.jsonl"
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        return list(dict.fromkeys(parse_json(line)["arch"] for line in lines))
    except (OSError, ValueError, TypeError, KeyError):
        return None
