"""Weights from the network: downloads into torch.hub's cache, checked by sha256, and pretrained torch.hub entries."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit

import torch
from torch import Tensor

from popgen.archs.hub import hub_network, parse_hub
from popgen.errors import BadInput, BrokenFile, NotFound, Offline, brief


def check_sha256(path: Path, digest: str) -> None:
    """Check the hash of a file.

    Raises:
        BrokenFile: its sha256 does not begin with `digest`.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(digest):
        raise BrokenFile(
            f"{path} is not the file that was meant",
            f"its sha256 begins with {found[: max(len(digest), 8)]}, not {digest}",
            "Download it again (delete this one first), or correct the hash.",
        )


def download(url: str, digest: str) -> Path:
    """Return the path of a URL's file in torch.hub's cache, after downloading it if it is not there.

    Raises:
        NotFound: the server has no such file.
        Offline: the server cannot be reached.
        BrokenFile: the cached or downloaded file has another sha256.
    """
    path = _cached(url)
    if path.exists():
        check_sha256(path, digest)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=digest, progress=False)
    except RuntimeError as error:  # The hash differs; torch.hub has deleted the file.
        raise BrokenFile(f"{url} is not the file that was meant", brief(error), "Correct the URL or sha256.") from error
    except HTTPError as error:
        if error.code in (404, 410):
            raise NotFound(f"{url} does not exist", brief(error), "Correct the URL.") from error
        raise _offline(url, path, error) from error
    except OSError as error:
        raise _offline(url, path, error) from error
    return path


def is_cached(url: str) -> bool:
    """Whether the file is in the cache, so that `download` needs no network."""
    return _cached(url).exists()


def file_name(url: str) -> str:
    """Return the last part of a URL's path.

    >>> file_name("https://host.org/a/resnet20-12fca82f.th?raw=1")
    'resnet20-12fca82f.th'
    """
    return Path(unquote(urlsplit(url).path)).name


def hub_tensors(name: str) -> dict[str, Tensor]:
    """Return the state dict of a torch.hub entry called with pretrained=True; this runs the repository's code.

    Raises:
        NotFound, Offline, BadInput: see `popgen.archs.hub.hub_network`.
    """
    ref, options = parse_hub(name)
    if options:
        raise BadInput(f"{name} has options", "weights are those of the entry as it is", "Leave the options out.")
    try:
        return hub_network(ref, {}, pretrained=True).state_dict()
    except TypeError as error:
        raise BadInput(f"{name} has no weights", f"pretrained=True: {brief(error)}", "Name another entry.") from error


def _cached(url: str) -> Path:
    return Path(torch.hub.get_dir(), "checkpoints", file_name(url))


def _offline(url: str, path: Path, error: Exception) -> Offline:
    return Offline(
        f"{url} could not be fetched", brief(error), f"Download it where there is a network, and copy it to {path}."
    )
