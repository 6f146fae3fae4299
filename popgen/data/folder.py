"""The folder of named data sets: POPGEN_DATA, which `--data-dir` and `SearchConfig.data_dir` set, else ./data.

An environment variable, because every data set is loaded by its name alone, also by the processes that Ray starts.
"""

from __future__ import annotations

import os
from pathlib import Path

_VARIABLE = "POPGEN_DATA"


def data_dir() -> Path:
    """The folder, absolute; it need not exist."""
    return Path(os.environ.get(_VARIABLE) or "data").expanduser().absolute()


def use_data_dir(folder: str | Path) -> None:
    """Look there from now on, in this process and those that it starts."""
    wanted = Path(folder).expanduser().absolute()
    if wanted != data_dir():  # ./data stays that of whatever the current folder is
        os.environ[_VARIABLE] = str(wanted)
