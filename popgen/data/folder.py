"""The folder that named data sets such as cifar10 are read from."""

from __future__ import annotations

import os
from pathlib import Path


def data_folder(named: str | Path | None = None) -> Path:
    """The folder as an absolute path; it need not exist.

    Args:
        named: the folder that the user named; None: the environment variable POPGEN_DATA, else ./data.
    """
    return Path(named or os.environ.get("POPGEN_DATA") or "data").expanduser().absolute()
