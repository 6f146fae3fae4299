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
