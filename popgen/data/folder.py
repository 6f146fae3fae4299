"""The data folder: named data sets such as cifar10 are read from it and downloaded to it."""

from __future__ import annotations

import os
from pathlib import Path


def data_folder(named: str | Path | None = None) -> Path:
    """The data folder as an absolute path; it need not exist.

    Args:
        named: the folder that the user gave. If None, it is that of the environment variable POPGEN_DATA, or else
            ./data.
    """
    return Path(named or os.environ.get("POPGEN_DATA") or "data").expanduser().absolute()


def local_path(text: str) -> Path:
    """A path of the user's, in which a leading `~` or `~USER` is their home folder, if there is such a user.

    >>> local_path("images/cats").as_posix()
    'images/cats'
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:  # There is no such user, so that the name is taken as it is.
        return Path(text)


def is_there(text: str) -> bool:
    """Whether a path of the user's exists. One that the system cannot look up, such as a name too long, does not.

    >>> is_there("no/such/folder"), is_there("x" * 5000)
    (False, False)
    """
    try:
        return local_path(text).exists()
    except OSError:
        return False
