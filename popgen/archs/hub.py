"""Networks of other people's repositories, by torch.hub: `hub:OWNER/REPO:ENTRY`, `hub:OWNER/REPO@REF:ENTRY`, `hub:FOLDER:ENTRY`.

An entry is a function of the repository's hubconf.py. Calling it runs the repository's code with the user's rights: that happens only for
a name that the user has typed (popgen.refs.check_trusted). A folder is a clone of such a repository, read without a network.
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

from popgen.errors import BadInput, NotFound, Offline, PopgenError, brief, near_matches

_REF = re.compile(r"hub:(?P<source>.+?):(?P<entry>[A-Za-z_]\w*)(?P<options>(?:/\w+:[^/]+)*)")
_REPO = re.compile(r"[\w.-]+/[\w.-]+(?:@[\w./-]+)?")
_DEFINED = re.compile(r"^(?:def|class) +(\w+)|^(\w+) *=|import +(.+)$", re.MULTILINE)
_FORM = "Write hub:OWNER/REPO:ENTRY, hub:OWNER/REPO@REF:ENTRY or hub:FOLDER:ENTRY."


@dataclass(frozen=True)
class HubRef:
    """An entry of a repository on GitHub, or of a folder."""

    source: str  # OWNER/REPO[@REF], or the folder as it was written
    entry: str
    is_folder: bool

    @property
    def name(self) -> str:
        """How popgen writes it."""
        return f"hub:{self.source}:{self.entry}"

    @property
    def text(self) -> str:
        """In words, without where a folder lies on this machine."""
        source = Path(self.source).resolve().name if self.is_folder else self.source
        return f"{self.entry.replace('_', ' ')} network of {source}"


def parse_hub(name: str) -> tuple[HubRef, str]:
    """The entry that a name means, and the options behind it as they are written.

    What exists as a folder, or is written as a path (/..., ./..., ../..., ~...), is one.

    Raises:
        BadInput: not of that form.

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
    """The network that an entry makes, without weights or with the repository's own.

    Raises:
        NotFound: no such repository, folder or entry.
        Offline: it is not on this machine and cannot be fetched, or it needs a package that is not installed.
        BadInput: its code fails, or does not return a module.
        TypeError: the entry does not take these options.
    """
    try:
        net = _call(ref, {**options, "pretrained": pretrained})
    except TypeError as error:
        if pretrained or "pretrained" not in str(error):
            raise
        net = _call(ref, options)  # an entry without weights of its own
    if not isinstance(net, nn.Module):
        raise BadInput(f"{ref.name} returned {type(net).__name__}", "an entry for popgen returns a torch.nn.Module", "")
    return net


def _call(ref: HubRef, options: dict[str, Any]) -> Any:
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
    except Exception as error:  # it is somebody's code
        raise _explained(ref, repository, error) from error


def _explained(ref: HubRef, repository: str, error: Exception) -> PopgenError:
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
    """Names that a repository's hubconf.py defines or imports, read as text."""
    if ref.is_folder:
        text = (Path(repository) / "hubconf.py").read_text(encoding="utf-8", errors="replace")
        groups = [part for match in _DEFINED.findall(text) for part in match if part]
        return [name.strip(" ()") for part in groups for name in part.split(",") if name.strip(" ()").isidentifier()]
    with redirect_stdout(sys.stderr):
        return list(torch.hub.list(repository, trust_repo=True, verbose=False))
