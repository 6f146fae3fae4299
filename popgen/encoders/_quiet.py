"""A context manager that silences the encoder libraries while they load a model."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers.utils import logging as transformers_logging


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress progress bars, warnings and log lines inside the block, and restore every setting after it.

    Exceptions still pass.

    >>> with quiet():
    ...     logging.warning("not shown")
    """
    hub_bars = not are_progress_bars_disabled()
    model_bars = transformers_logging.is_progress_bar_enabled()
    level = logging.root.manager.disable
    disable_progress_bars()
    transformers_logging.disable_progress_bar()
    logging.disable(logging.ERROR)  # up to ERROR, because open_clip also logs an error that it raises
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
