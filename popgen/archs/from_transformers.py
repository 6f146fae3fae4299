"""What all architectures share that are read from transformers: folders and names of the hub, and errors in popgen's words.

No code of a folder runs, and weights are read from safetensors alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import errors as hub_errors
from safetensors import SafetensorError
from transformers.utils import logging

from popgen.errors import BadInput, NotFound, Offline, brief

_HUB = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
# What transformers raises for files that it cannot read; newer versions check the types of settings, by an error of their own.
_UNREADABLE: tuple[type[Exception], ...] = (
    ValueError, KeyError, ImportError, RuntimeError, TypeError, AttributeError, SafetensorError,
    getattr(hub_errors, "StrictDataclassError", ValueError),
)  # fmt: skip
SAFE: dict[str, Any] = {"trust_remote_code": False}


@dataclass(frozen=True)
class Source:
    """One kind of models in transformers' format, in the words of its errors."""

    prefix: str  # stands before the name of an architecture
    what: str
    form: str  # how such a model is named

    def read(self, base: str, call: Callable[[], Any]) -> Any:
        """Return what `call` reads of a base, without transformers' remarks and progress bars.

        Args:
            base: a folder, a file, or a name of the hub.

        Raises:
            NotFound: the base is no path here, and no name of the hub.
            Offline: it is a name of the hub, and could not be fetched.
            BadInput: transformers cannot read it.
        """
        local = Path(base).exists()
        if not local and not _HUB.fullmatch(base):
            raise NotFound(f"there is no {self.what} {base!r}", "", self.form)
        try:
            with quiet():
                return call()
        except OSError as error:
            if local:
                raise BadInput(f"{base} is no {self.what} of transformers", brief(error), self.form) from error
            what = f"{self.prefix}{base} is not on this machine and could not be fetched"
            raise Offline(what, brief(error), self.form) from error
        except _UNREADABLE as error:
            raise BadInput(
                f"transformers cannot read {base}",
                brief(error),
                "Code of a folder is never run; weights are safetensors.",
            ) from error


def absolute(base: str) -> str:
    """Return a base with its path made absolute; a name of the hub stays as it is."""
    path = Path(base).expanduser()
    return str(path.resolve()) if path.exists() else base


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' remarks and progress bars off the terminal."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
