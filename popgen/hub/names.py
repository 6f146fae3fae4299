"""Names of repositories of the Hugging Face hub, `hub:OWNER/NAME` or `hub:OWNER/NAME@REVISION`, without importing its client."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from popgen.errors import BadInput

PREFIX = "hub:"
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"{_PART}/{_PART}")
_REVISION = re.compile(r"[A-Za-z0-9_][\w./-]*", re.ASCII)  # a branch, a tag or a commit
_MOST = 96  # characters of OWNER/NAME, as the hub limits them
_FORM = "Write OWNER/NAME, such as ann/digits-generator."


@dataclass(frozen=True)
class HubName:
    """A repository, and the branch, tag or commit of it that is meant; None: its main branch."""

    repository: str
    revision: str | None = None

    @property
    def text(self) -> str:
        """The name in the form that `parse_hub_name` reads.

        >>> HubName("ann/digits", "v1").text
        'hub:ann/digits@v1'
        """
        return f"{PREFIX}{self.repository}" + (f"@{self.revision}" if self.revision else "")


def is_hub_name(name: str | Path) -> bool:
    """Whether a name of a generator or zoo is that of a repository on the hub."""
    return isinstance(name, str) and name.startswith(PREFIX)


def parse_hub_name(name: str) -> HubName:
    """Return the repository and the revision of a name.

    Raises:
        BadInput: the name does not have the form hub:OWNER/NAME or hub:OWNER/NAME@REVISION.

    >>> parse_hub_name("hub:ann/digits@v1.0")
    HubName(repository='ann/digits', revision='v1.0')
    """
    repository, at, revision = name.removeprefix(PREFIX).partition("@")
    fits = is_repository(repository) and (not at or (_REVISION.fullmatch(revision) and ".." not in revision))
    if not name.startswith(PREFIX) or not fits:
        raise BadInput(
            f"{name!r} names no repository of the hub",
            "it does not have the form hub:OWNER/NAME or hub:OWNER/NAME@REVISION",
            "For example hub:ann/digits-generator, or hub:ann/digits-generator@v1.",
        )
    return HubName(repository, revision or None)


def is_repository(text: str) -> bool:
    """Whether a text has the form OWNER/NAME that the hub takes.

    >>> is_repository("ann/digits"), is_repository("digits"), is_repository("ann/../x")
    (True, False, False)
    """
    odd = "--" in text or ".." in text or text.endswith(".git")
    return _REPOSITORY.fullmatch(text) is not None and not odd and len(text) <= _MOST


def check_repository(text: str) -> None:
    """Refuse the name of a repository to write that is not OWNER/NAME.

    Raises:
        BadInput: it has another form.
    """
    if not is_repository(text):
        raise BadInput(f"{text!r} is not the name of a repository", "letters, digits and . _ - around one slash", _FORM)


def check_revision(text: str | None) -> None:
    """Refuse the name of a branch that the hub does not take.

    Raises:
        BadInput: it has another form.
    """
    if text is not None and (not _REVISION.fullmatch(text) or ".." in text):
        raise BadInput(f"{text!r} is not the name of a branch", "letters, digits and . _ - / without ..", "")
