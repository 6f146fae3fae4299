"""Keeps the progress bars of the hub's client out of logs: they are for terminals."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def bars_on_terminals() -> Iterator[None]:
    """Switch the client's bars off while standard error is no terminal."""
    from huggingface_hub.utils import (  # noqa: PLC0415 - it takes a quarter of a second
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    switches = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if switches:
        disable_progress_bars()
    try:
        yield
    finally:
        if switches:
            enable_progress_bars()
