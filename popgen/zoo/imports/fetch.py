"""Fetches weights: files by URL, checked by their sha256, and pretrained weights of torch.hub entries and of transformers.

Downloads are kept in torch.hub's cache.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit

import torch
from torch import Tensor

from popgen.archs import ArchConfig
from popgen.archs.hub import hub_network, parse_hub
from popgen.archs.names import brings_weights
from popgen.archs.outside import pretrained_state
from popgen.errors import BadInput, BrokenFile, NotFound, Offline, brief
from popgen.zoo.imports.causes import os_cause, write_cause


def check_sha256(path: Path, digest: str) -> None:
    """Refuse a file whose sha256 does not begin with `digest`.

    Raises:
        BrokenFile: its sha256 begins with other digits, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise os_cause(path, error) from error
    if not found.startswith(digest):
        raise BrokenFile(
            f"{path} is not the expected file",
            f"its sha256 begins with {found[: max(len(digest), 8)]}, not {digest}",
            "Download it again (delete this one first), or correct the hash.",
        )


def download(url: str, digest: str) -> Path:
    """Path of the file of a URL in torch.hub's cache; it is downloaded if the cache does not have it.

    Args:
        digest: the first digits of the file's sha256.

    Raises:
        NotFound: the server has no such file.
        Offline: the server cannot be reached.
        BrokenFile: the cached or the downloaded file has another sha256.
        CannotResume: the folder of downloads cannot be written.
    """
    path = _cache_path(url)
    if path.exists():
        check_sha256(path, digest)
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=digest, progress=False)
    except RuntimeError as error:  # torch raises it for a wrong sha256, and keeps no file then.
        raise BrokenFile(f"{url} is not the expected file", brief(error), "Correct the URL or sha256.") from error
    except HTTPError as error:
        if error.code in (404, 410):
            raise NotFound(f"{url} does not exist", brief(error), "Correct the URL.") from error
        raise _offline(url, path, error) from error
    except OSError as error:
        if error.errno is not None and not isinstance(error, (ConnectionError, TimeoutError)):  # not of the network
            raise write_cause(f"the folder of downloads {path.parent} (TORCH_HOME)", error) from error
        raise _offline(url, path, error) from error
    return path


def is_cached(url: str) -> bool:
    """Whether the file of a URL is in the cache, so that `download` needs no network."""
    return _cache_path(url).exists()


def file_name(url: str) -> str:
    """The last part of a URL's path.

    >>> file_name("https://host.org/a/resnet20-12fca82f.th?raw=1")
    'resnet20-12fca82f.th'
    """
    return Path(unquote(urlsplit(url).path)).name


def hub_tensors(name: str) -> dict[str, Tensor]:
    """The weights that a name brings: those of transformers, or the state dict of a torch.hub entry that is called with pretrained=True.

    The latter runs the repository's code.

    Raises:
        BadInput: the name has options, or the entry takes no `pretrained`.
        NotFound, Offline, BadInput: as `popgen.archs.hub.hub_network`.
    """
    if brings_weights(name):
        return pretrained_state(name)
    ref, options = parse_hub(name)
    if options:
        raise BadInput(
            f"{name} has options", "pretrained weights belong to the entry without options", "Leave the options out."
        )
    try:
        return hub_network(ref, {}, pretrained=True).state_dict()
    except TypeError as error:
        raise BadInput(f"{name} has no weights", f"pretrained=True: {brief(error)}", "Name another entry.") from error


def check_weights_of(name: str, config: ArchConfig) -> None:
    """Refuse a classifier of transformers for an architecture of another one that reads its inputs differently.

    Raises:
        BadInput: their settings, tokenizers or numbers of classes differ.
        NotFound, Offline: one of them cannot be read.
    """
    if name.startswith("hf:") and config.builder.startswith("hf:"):
        from popgen.archs.classifiers.alike import check_alike  # noqa: PLC0415 - importing transformers takes seconds
        from popgen.archs.from_transformers import absolute  # noqa: PLC0415 - as above

        check_alike(config.builder.removeprefix("hf:"), absolute(name.removeprefix("hf:")), config.classes)


def _cache_path(url: str) -> Path:
    return Path(torch.hub.get_dir(), "checkpoints", file_name(url))


def _offline(url: str, path: Path, error: Exception) -> Offline:
    return Offline(
        f"{url} could not be fetched", brief(error), f"Download it where there is a network, and copy it to {path}."
    )
