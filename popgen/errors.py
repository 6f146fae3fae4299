"""The errors of popgen. Each has a message of three lines (what and where, why, what to do next) and an exit code.

Exit codes: 0 success, 1 a failed search, 2 wrong usage (from Click), 3 a name that does not exist, 4 input that does
not fit, 5 a broken file, 6 something that needs a network or an extra package, 7 a run that cannot continue,
130 Ctrl-C.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_NAMED = 40  # known names that an error lists at most


class PopgenError(Exception):
    """Base class of all errors of popgen.

    Args:
        what: what happened and where.
        why: the reason, or "".
        todo: the advice what to do next, or "".
    """

    exit_code = 7

    def __init__(self, what: str, why: str = "", todo: str = "") -> None:
        self.what, self.why, self.todo = what, why, todo
        super().__init__("\n".join(line for line in (what, why, todo) if line))

    def __reduce__(self) -> tuple[type[PopgenError], tuple[str, str, str]]:
        return type(self), (self.what, self.why, self.todo)


class NotFound(PopgenError):
    """Something with this name does not exist."""

    exit_code = 3


class BadInput(PopgenError):
    """A value, a shape or a combination of options does not fit."""

    exit_code = 4


class NotTrusted(PopgenError):
    """A file names code that the user has not named, so it must not run."""

    exit_code = 4


class BrokenFile(PopgenError):
    """A file is truncated, altered, or not what it claims to be."""

    exit_code = 5


class Offline(PopgenError):
    """Something needs a network, or a package that is not installed."""

    exit_code = 6


class CannotResume(PopgenError):
    """A run cannot be resumed as it is."""

    exit_code = 7


def brief(error: BaseException, length: int = 200) -> str:
    """Return an exception's type and message on one line of at most `length` characters.

    >>> brief(ValueError("one\\ntwo"))
    'ValueError: one two'
    """
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= length else text[: length - 3] + "..."


def near_matches(name: str, known: Iterable[str]) -> str:
    """Return up to three known names similar to `name`, separated by commas; if none is similar, up to 40 known names.

    >>> near_matches("cnn-x", ["cnn-s", "cnn-m", "mlp-s"])
    'cnn-s, cnn-m'
    >>> near_matches("x", map(str, range(100)))[-15:]
    '44, and 60 more'
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or sorted(known)
    more = [f"and {len(near) - _NAMED} more"] if len(near) > _NAMED else []
    return ", ".join(near[:_NAMED] + more) or "(none)"


def unknown_name(kind: str, name: str, known: Iterable[str], todo: str = "") -> NotFound:
    """Return a NotFound for `name` whose second line lists the nearest known names.

    Args:
        kind: what the name was meant for, such as "architecture".

    >>> print(unknown_name("architecture", "cnn-x", ["cnn-s", "mlp-s"], "popgen archs lists them."))
    there is no architecture called 'cnn-x'
    nearest known: cnn-s
    popgen archs lists them.
    """
    return NotFound(f"there is no {kind} called {name!r}", f"nearest known: {near_matches(name, known)}", todo)
