"""Sends a folder of popgen to the Hugging Face hub: only the files that belong to its kind, without paths and secrets of this machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from popgen.errors import BadInput, BrokenFile, PopgenError
from popgen.hub.kinds import AUDIT, CARD, KINDS, Kind
from popgen.hub.names import HubName
from popgen.hub.paths import has_home, without_paths
from popgen.hub.quiet import bars_on_terminals
from popgen.refs import inside

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_TEXTS = (".json", ".jsonl", ".yaml", ".md", ".html", ".svg", ".txt", "")
_SECRETS = re.compile(
    r"\bhf_[A-Za-z0-9]{20,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bAKIA[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY"
)


@dataclass(frozen=True)
class Upload:
    """A file to send: its path in the repository, and the file or the text that differs from it."""

    path: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


def collect(folder: Path, kind: Kind) -> tuple[list[Upload], list[str]]:
    """Return the files to send without the card, and the paths of those that stay here because they do not belong to the kind.

    Raises:
        BadInput: a text has a secret, or a path of this machine where it cannot be replaced; or a link leaves the folder.
        BrokenFile: a text cannot be read.
    """
    uploads, left_out = [], []
    for file in sorted(one for one in folder.rglob("*") if one.is_file()):
        path = file.relative_to(folder).as_posix()
        if not kind.has(path):
            left_out.append(path)
        elif path != CARD:
            inside(folder, path)
            uploads.append(Upload(path, _content(file, path, folder, kind)))
    return uploads, left_out


def audit_upload(place: Path) -> Upload:
    """Return the audit of a generator that lies elsewhere, by its file or folder.

    Raises:
        BadInput, BrokenFile: see `collect`.
    """
    file = place / "result.json" if place.is_dir() else place
    return Upload(AUDIT, _cleaned(_text(file), str(file), file.parent, True))


def card_upload(text: str, folder: Path, kind: Kind) -> Upload:
    """Return the card.

    Raises:
        BadInput: see `collect`.
    """
    return Upload(CARD, _cleaned(text, str(folder / CARD), folder, kind.rewrites))


def send(name: HubName, kind: Kind, uploads: Sequence[Upload], message: str, private: bool) -> tuple[str, str]:
    """Make the repository where it is missing, commit the files on the branch, and return the commit and its address.

    Files of the kind that the repository has and `uploads` has not are deleted in the same commit.

    Raises:
        BadInput: no token, no right to write, no room; the repository holds another kind, or is public against `private`.
        Offline: the hub does not answer.
    """
    from huggingface_hub import HfApi, get_token  # noqa: PLC0415 - it takes a quarter of a second

    from popgen.hub.failures import LOGIN, explained  # noqa: PLC0415 - and so does this

    if get_token() is None:
        raise BadInput(f"{name.text} could not be written", "there is no token", LOGIN)
    api = HfApi(library_name="popgen")
    try:
        with bars_on_terminals():
            return _commit(api, name, kind, uploads, message, private)
    except PopgenError:
        raise
    except Exception as error:  # as in download.py
        raise explained(error, name, "written") from error


def _commit(
    api: HfApi, name: HubName, kind: Kind, uploads: Sequence[Upload], message: str, private: bool
) -> tuple[str, str]:
    """Do what `send` describes, with the client's errors."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete  # noqa: PLC0415 - as above

    repository = name.repository
    api.create_repo(repository, private=private or None, exist_ok=True)
    if private and not api.model_info(repository).private:
        todo = "Make it private on its page, or leave --private out."
        raise BadInput(f"{repository} is there already and public", "--private asks for a private one", todo)
    if name.revision is not None:
        api.create_branch(repository, branch=name.revision, exist_ok=True)
    there = api.list_repo_files(repository, revision=name.revision)
    _check_same_kind(repository, kind, there)
    old = sorted(set(there) - {one.path for one in uploads})
    deletions = [CommitOperationDelete(path) for path in old if kind.has(path) and kind.is_data(path)]
    additions = [CommitOperationAdd(one.path, one.content) for one in uploads]
    made = api.create_commit(repository, [*additions, *deletions], commit_message=message, revision=name.revision)
    return str(made.oid), str(made.commit_url)


def _check_same_kind(repository: str, kind: Kind, there: Sequence[str]) -> None:
    """Refuse to mix two kinds in one repository."""
    for other in KINDS:
        if other is not kind and other.is_in(there) and not kind.is_in(there):
            what = f"{repository} holds a {other.name}"
            raise BadInput(what, f"a {kind.name} was to be sent there", "Name another repository.")


def _content(file: Path, path: str, folder: Path, kind: Kind) -> Path | bytes:
    if file.suffix not in _TEXTS:
        return file
    text = _text(file)
    cleaned = _cleaned(text, str(file), folder, kind.rewrites or path == AUDIT)
    return file if cleaned == text.encode() else cleaned


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except (OSError, UnicodeError) as error:
        raise BrokenFile(f"{file} cannot be read", str(error), "Make or copy it again.") from error


def _cleaned(text: str, where: str, folder: Path, rewrites: bool) -> bytes:
    """The text without paths of this machine; secrets are refused, and such paths where something is hashed over them."""
    secret = _SECRETS.search(text)
    if secret is not None:
        line = text.count("\n", 0, secret.start()) + 1
        raise BadInput(f"{where}, line {line} holds what looks like a secret", f"{secret[0][:6]}...", "Remove it.")
    if rewrites:
        return without_paths(text, folder).encode()
    if has_home(text):
        line = next(i for i, one in enumerate(text.splitlines(), 1) if has_home(one))
        todo = "Replace it there by something that means the same elsewhere, such as an address."
        raise BadInput(f"{where}, line {line} names your home folder {Path.home()}", "everybody could read it", todo)
    return text.encode()
