"""Fetches a generator or a zoo from the Hugging Face hub into the client's cache.

Environment variables of the client hold: HF_TOKEN, HF_HOME and HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT. Only the files
of the kind are fetched, all of them data: nothing is unpickled and no code of a repository runs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from popgen.errors import BrokenFile, NotFound
from popgen.hub.kinds import KINDS, Kind
from popgen.hub.names import HubName, is_hub_name, parse_hub_name
from popgen.hub.quiet import bars_on_terminals

_SHA256 = re.compile(r"[0-9a-f]{64}")  # the name of a large file in the cache; that of a small one is git's own hash
_fetched: dict[tuple[HubName, str], Path] = {}  # in this process a name stays at its commit


def hub_folder(name: str, kind: Kind) -> Path:
    """Return the folder of a repository in the hub's cache, whose own name is the commit, after fetching what is missing.

    Where the hub does not answer, the commit that the revision had when it was fetched last is used if it is complete.

    Args:
        name: hub:OWNER/NAME or hub:OWNER/NAME@REVISION.
        kind: what the repository has to hold.

    Raises:
        BadInput: the name has another form, before anything is asked; or the hub refuses the request.
        NotFound: there is no such repository or revision, or it is of another kind.
        Offline: the hub does not answer, and the cache does not hold it.
        BrokenFile: a file is not the one that the hub has.
    """
    asked = parse_hub_name(name)
    found = _fetched.get((asked, kind.name))
    if found is None or not found.is_dir():
        found = _fetch(asked, kind)
        _check_kind(asked, kind, found)
        _check_files(asked, found)
        _fetched[asked, kind.name] = _fetched[HubName(asked.repository, found.name), kind.name] = found
    return found


def forget() -> None:
    """Let the next use of a name ask the hub again for its commit, as a new process does."""
    _fetched.clear()


def pinned(name: str, kind: Kind, say: Callable[[str], None] = lambda _: None) -> str:
    """Return the name of a generator or zoo with the commit that it means now; other names than those of the hub stay.

    A run that records this name finds the same files later, whatever is pushed in the meantime.

    Raises:
        BadInput, NotFound, Offline, BrokenFile: see `hub_folder`.

    >>> from popgen.hub.kinds import ZOO
    >>> pinned("zoos/mine", ZOO)
    'zoos/mine'
    """
    if not is_hub_name(name):
        return name
    asked = parse_hub_name(name)
    exact = HubName(asked.repository, hub_folder(name, kind).name)
    if exact != asked:
        say(f"{asked.text}: commit {exact.revision}")
    return exact.text


def _fetch(asked: HubName, kind: Kind) -> Path:
    """Return the folder in the cache."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - it takes a quarter of a second

    from popgen.hub.failures import explained  # noqa: PLC0415 - and so does this

    try:
        with bars_on_terminals():
            patterns = list(kind.patterns)
            return Path(snapshot_download(asked.repository, revision=asked.revision, allow_patterns=patterns))
    except Exception as error:  # the client's own errors, and those of its HTTP library, which changes with its release
        raise explained(error, asked, "fetched") from error


def _check_kind(asked: HubName, kind: Kind, folder: Path) -> None:
    if all(any(folder.glob(marker)) for marker in kind.markers):
        return
    is_other = next((one for one in KINDS if all(any(folder.glob(marker)) for marker in one.markers)), None)
    missing = ", ".join(marker for marker in kind.markers if not any(folder.glob(marker)))
    why = f"it has no {missing}" if is_other is None else f"it is a {is_other.name}"
    raise NotFound(f"{asked.text} is not a {kind.name}", why, f"`popgen push` sends a {kind.name}'s folder to the hub.")


def _check_files(asked: HubName, folder: Path) -> None:
    """Refuse large files whose content is not what the hub has: the cache names each by its SHA-256."""
    for file in sorted(folder.rglob("*.safetensors")):
        expected = file.resolve().name
        if file.is_symlink() and _SHA256.fullmatch(expected):
            with file.open("rb") as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest()
            if found != expected:
                raise BrokenFile(
                    f"{file.relative_to(folder)} of {asked.text} is damaged in the cache",
                    f"its SHA-256 is {found[:12]}..., the hub has {expected[:12]}...",
                    f"Remove {file.resolve()} and run the command again.",
                )
