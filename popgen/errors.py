"""What popgen says when it cannot go on: three lines (what and where, why, what to do next) and an exit code.

Exit codes: 0 done, 1 a search that failed, 2 wrong usage (Click's own), 3 a name that does not exist, 4 input that does not fit, 5 a broken
file, 6 something not reachable without a network or an extra package, 7 a run that cannot go on, 130 Ctrl-C.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PopgenError(Exception):
    """An error with a fix: what happened and where, why, and what to do next."""

    exit_code = 7

    def __init__(self, what: str, why: str = "", todo: str = "") -> None:
        self.what, self.why, self.todo = what, why, todo
        super().__init__("\n".join(line for line in (what, why, todo) if line))

    def __reduce__(self) -> tuple[type[PopgenError], tuple[str, str, str]]:
        return type(self), (self.what, self.why, self.todo)


class NotFound(PopgenError):
    """A name that nothing answers to."""

    exit_code = 3


class BadInput(PopgenError):
    """A value, shape or combination that does not fit."""

    exit_code = 4


class NotTrusted(PopgenError):
    """Code that a file names and the user has not."""

    exit_code = 4


class BrokenFile(PopgenError):
    """A file that is truncated, altered, or not what it claims to be."""

    exit_code = 5


class Offline(PopgenError):
    """Something that needs a network or a package that is not installed."""

    exit_code = 6


class CannotResume(PopgenError):
    """A run that cannot go on as it is."""

    exit_code = 7


def brief(error: BaseException, length: int = 200) -> str:
    """An exception's type and message on one line.

    >>> brief(ValueError("one\\ntwo"))
    'ValueError: one two'
    """
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= length else text[: length - 3] + "..."


def near_matches(name: str, known: Iterable[str]) -> str:
    """The three known names nearest to `name`, or all of them when none is near.

    >>> near_matches("cnn-x", ["cnn-s", "cnn-m", "mlp-s"])
    'cnn-s, cnn-m'
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return ", ".join(near or sorted(known)) or "(none)"


def unknown_name(kind: str, name: str, known: Iterable[str], todo: str = "") -> NotFound:
    """A NotFound for `name`, with the nearest known names.

    >>> print(unknown_name("architecture", "cnn-x", ["cnn-s", "mlp-s"], "popgen archs lists them."))
    there is no architecture called 'cnn-x'
    nearest known: cnn-s
    popgen archs lists them.
    """
    return NotFound(f"there is no {kind} called {name!r}", f"nearest known: {near_matches(name, known)}", todo)
