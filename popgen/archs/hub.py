"""Networks loaded by torch.hub: `hub:OWNER/REPO:ENTRY`, `hub:OWNER/REPO@REF:ENTRY`, `hub:FOLDER:ENTRY`.

An entry is a function in the repository's hubconf.py, and FOLDER is a local clone of a repository. Calling an entry
runs the repository's code with the user's rights, so callers first check that the user has named it
(popgen.refs.check_trusted).
"""

from __future__ import annotations

import re
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import torch
from torch import nn

from popgen.archs.elsewhere import entries_in
from popgen.errors import BadInput, NotFound, Offline, PopgenError, brief, near_matches

_REF = re.compile(r"hub:(?P<source>.+?):(?P<entry>[A-Za-z_]\w*)(?P<options>(?:/\w+:[^/]+)*)")
_REPO = re.compile(r"[\w.-]+/[\w.-]+(?:@[\w./-]+)?")
_FORM = "Write hub:OWNER/REPO:ENTRY, hub:OWNER/REPO@REF:ENTRY or hub:FOLDER:ENTRY."


@dataclass(frozen=True)
class HubRef:
    """An entry of a repository on GitHub or in a local folder."""

    source: str  # OWNER/REPO[@REF], or the folder as the user wrote it
    entry: str
    is_folder: bool

    @property
    def name(self) -> str:
        """The reference as a string, in the form that `parse_hub` reads."""
        return f"hub:{self.source}:{self.entry}"

    @property
    def text(self) -> str:
        """A description in words, in which a local folder appears by its name alone, without its path."""
        source = Path(self.source).resolve().name if self.is_folder else self.source
        return f"{self.entry.replace('_', ' ')} network of {source}"


def parse_hub(name: str) -> tuple[HubRef, str]:
    """Split a name into the reference and the text of its options.

    The source counts as a folder if it exists as one, or is written as a path (/..., ./..., ../..., ~...).

    Raises:
        BadInput: the name is not a hub reference.

    >>> parse_hub("hub:me/nets@v1.0:small_net/num_classes:5")
    (HubRef(source='me/nets@v1.0', entry='small_net', is_folder=False), '/num_classes:5')
    """
    match = _REF.fullmatch(name)
    if match is None:
        raise BadInput(f"{name!r} names no entry of a repository", "", _FORM)
    source = match["source"]
    is_folder = source.startswith(("/", "./", "../", "~")) or Path(source).is_dir()
    if not is_folder and not _REPO.fullmatch(source):
        raise BadInput(f"{source!r} of {name!r} is no OWNER/REPO and no folder here", "", _FORM)
    return HubRef(source, match["entry"], is_folder), match["options"]


def hub_network(ref: HubRef, options: dict[str, Any], pretrained: bool = False) -> nn.Module:
    """Call an entry and return its network, with fresh weights or, if `pretrained`, the repository's own.

    Raises:
        NotFound: the repository, folder or entry does not exist.
        Offline: the repository is not on this machine and cannot be fetched, or needs a package that is not installed.
        BadInput: the repository's code fails, or the entry does not return a module.
        TypeError: the entry does not take these options.
    """
    try:
        net = _call(ref, {**options, "pretrained": pretrained})
    except TypeError as error:
        if pretrained or "pretrained" not in str(error):
            raise
        net = _call(ref, options)  # the entry has no weights of its own and so no option `pretrained`
    if not isinstance(net, nn.Module):
        raise BadInput(f"{ref.name} returned {type(net).__name__}", "an entry for popgen returns a torch.nn.Module", "")
    return net


def _call(ref: HubRef, options: dict[str, Any]) -> Any:
    """Call an entry by torch.hub, and raise its errors as PopgenErrors; only a TypeError passes unchanged."""
    folder = Path(ref.source).expanduser()
    if ref.is_folder and not (folder / "hubconf.py").is_file():
        raise NotFound(f"{folder} of {ref.name} has no hubconf.py", "that file lists a repository's entries", _FORM)
    repository = str(folder) if ref.is_folder else ref.source.replace("@", ":", 1)
    source = "local" if ref.is_folder else "github"
    try:
        with redirect_stdout(sys.stderr):  # torch.hub reports downloads on stdout, where popgen's results go
            return torch.hub.load(repository, ref.entry, source=source, trust_repo=True, verbose=False, **options)
    except (PopgenError, TypeError):
        raise
    except Exception as error:  # the repository's code may raise anything
        raise _explained(ref, repository, error) from error


def _explained(ref: HubRef, repository: str, error: Exception) -> PopgenError:
    """The PopgenError that says what an exception from torch.hub or the repository's code means for the user."""
    text = str(error)
    if isinstance(error, HTTPError) and error.code == 404 or "Cannot find" in text and "https://github.com" in text:
        return NotFound(f"GitHub has no {ref.source}", brief(error), _FORM)
    if "Cannot find callable" in text:
        near = near_matches(ref.entry, _entries(ref, repository))
        return NotFound(f"{ref.source} has no entry {ref.entry!r}", f"nearest known: {near}", "See its hubconf.py.")
    if isinstance(error, ImportError) or "Missing dependencies" in text:
        return Offline(f"{ref.name} needs a package that is not installed", brief(error), "Install it with pip.")
    if isinstance(error, OSError) or "no internet connection" in text:
        where = ref.source if ref.is_folder else f"https://github.com/{ref.source.partition('@')[0]}"
        return Offline(
            f"{ref.name} could not be fetched",
            brief(error),
            f"Where there is a network run `git clone {where}`, copy the folder here and name hub:FOLDER:{ref.entry}.",
        )
    return BadInput(f"the code of {ref.name} failed", brief(error), "Call it by torch.hub.load alone to see where.")


def _entries(ref: HubRef, repository: str) -> list[str]:
    """Names of a repository's entries."""
    if ref.is_folder:
        return entries_in(Path(repository))
    with redirect_stdout(sys.stderr):
        return list(torch.hub.list(repository, trust_repo=True, verbose=False))
