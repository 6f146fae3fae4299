"""Errors of the package `search`.

Every message has three lines: what happened and where, why, and what to do next. `exit_code` is the code with which a
command line should exit.
"""


class SearchError(Exception):
    """Base class of all errors that `search` raises on purpose."""

    exit_code = 1


class UnknownName(SearchError):
    """A name is not among the known ones."""

    exit_code = 3


class UnknownOptimizer(UnknownName):
    """The optimizer is not known, cannot be imported, or does not work in the installed version."""


class BrokenRecord(SearchError):
    """A history or a population on disk is damaged, or was written in another version of the format."""

    exit_code = 5


class ResumeMismatch(SearchError):
    """The history on disk belongs to another search than the one that is to be resumed."""

    exit_code = 7


class TooManyFailures(SearchError):
    """So many evaluations in a row have failed that going on would only waste the budget."""


class RunLocked(SearchError):
    """Another process is writing the same history."""

    exit_code = 7
