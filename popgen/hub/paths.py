"""Paths of this machine in texts that leave it: they name its user, and mean nothing elsewhere."""

from __future__ import annotations

from pathlib import Path


def without_home(text: str) -> str:
    """The text with ~ in place of the user's home folder.

    >>> without_home(f"folder:{Path.home()}/photos")
    'folder:~/photos'
    """
    home = str(Path.home())
    return text if home == "/" else text.replace(home, "~")


def without_paths(text: str, folder: Path) -> str:
    """The text with paths of what lies in `folder` or in the current folder made relative, and then without the home folder.

    >>> without_paths('{"weights": "/data/run/best.safetensors"}', Path("/data/run"))
    '{"weights": "best.safetensors"}'
    """
    for place in (folder.resolve(), Path.cwd()):
        if place != Path(place.anchor):
            text = text.replace(f"{place}/", "").replace(f'"{place}"', '"."').replace(f": {place}\n", ": .\n")
    return without_home(text)


def has_home(text: str) -> bool:
    """Whether a text names the user's home folder."""
    return without_home(text) != text
