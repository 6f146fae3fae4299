"""What can go wrong in a search.

Every message has three lines: what and where, why, and what to do next. `exit_code` is what a command line should
return for it.
"""


class SearchError(Exception):
    """Base of all errors that `search` raises on purpose."""

    exit_code = 1


class UnknownName(SearchError):
    """A name that nothing answers to."""

    exit_code = 3


class UnknownOptimizer(UnknownName):
    """The optimizer's name is not known, cannot be imported, or its installed version does not work."""


class BrokenRecord(SearchError):
    """A history or a population on disk is damaged, or of another version."""

    exit_code = 5


class ResumeMismatch(SearchError):
    """The history on disk belongs to another search than the one that was asked to go on."""

    exit_code = 7


class TooManyFailures(SearchError):
    """So many evaluations failed in a row that going on would only waste the budget."""


class RunLocked(SearchError):
    """Another process is writing the same history."""

    exit_code = 7
