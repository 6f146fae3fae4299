"""The names of generators, and of the architectures that each was trained on, without importing torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from popgen.errors import NotFound, near_matches, unknown_name
from popgen.hub.download import hub_folder
from popgen.hub.kinds import GENERATOR
from popgen.hub.names import is_hub_name
from popgen.json_text import parse_json
from popgen.refs import asset, asset_names


def generator_folder(name: str | Path) -> Path:
    """Return the folder of a generator that is given as a path, by a built-in name, or as hub:OWNER/NAME[@REVISION].

    Raises:
        NotFound: it is none of these.
        BadInput, Offline, BrokenFile: see `popgen.hub.download.hub_folder`.
    """
    if is_hub_name(name):
        return hub_folder(str(name), GENERATOR)
    path = Path(name)
    if (path / "config.json").exists():
        return path
    built_in = asset("generators", str(name))
    if built_in is None:
        known = asset_names("generators")
        if path.exists():
            raise NotFound(f"{path} is not a generator", "it has no config.json", "`popgen train SPEC.yaml` makes one.")
        raise unknown_name(
            "generator",
            str(name),
            known,
            "Name a built-in one, the folder that `popgen train` wrote, or hub:OWNER/NAME.",
        )
    return built_in


def archs_of(name: str | Path) -> list[str] | None:
    """Names of the architectures that a generator was trained on; None if its config.json cannot be read.

    Raises:
        NotFound: `name` is neither a generator's folder nor the name of a built-in one.

    >>> "cnn-s" in archs_of("digits")
    True
    """
    file = generator_folder(name) / "config.json"
    try:
        return list(parse_json(file.read_text(encoding="utf-8"))["archs"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def stored_in(name: str | Path) -> set[tuple[str, str]] | None:
    """Architecture and data set of each checkpoint whose code a generator holds; None if codes.json cannot be read.

    Raises:
        NotFound: `name` is neither a generator's folder nor the name of a built-in one.
    """
    file = generator_folder(name) / "codes.json"
    try:
        return {(code["arch"], code["data"]) for code in parse_json(file.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError, KeyError):
        return None


def no_checkpoint(arch: str, data: str, known: Iterable[str]) -> NotFound:
    """Return the error for a data set of which a generator holds no checkpoint of an architecture.

    Args:
        known: the data sets of which it does.
    """
    return NotFound(
        f"the generator holds no {arch} checkpoint for {data!r}",
        f"nearest known data sets: {near_matches(data, sorted(known))}",
        f"`popgen search --arch {arch} --data {data}` finds weights for data it was not trained on.",
    )
