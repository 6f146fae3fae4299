"""Silences progress bars, warnings and log lines of the encoder libraries while a model loads; errors still raise."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers.utils import logging as transformers_logging


@contextmanager
def quiet() -> Iterator[None]:
    """Within it the libraries print nothing; every setting is put back afterwards.

    >>> with quiet():
    ...     logging.warning("not shown")
    """
    hub_bars = not are_progress_bars_disabled()
    model_bars = transformers_logging.is_progress_bar_enabled()
    level = logging.root.manager.disable
    disable_progress_bars()
    transformers_logging.disable_progress_bar()
    logging.disable(logging.ERROR)  # open_clip logs an error that it also raises
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        if hub_bars:
            enable_progress_bars()
        if model_bars:
            transformers_logging.enable_progress_bar()
