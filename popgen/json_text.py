"""Writes JSON that every reader takes, because JSON has no NaN and no infinity; and reads JSON, however deeply it is nested."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def json_text(content: Any, indent: int | None = None, *, sort_keys: bool = False) -> str:
    """Return the content as JSON; NaN and infinity become null.

    >>> json_text({"loss": float("inf"), "scores": [0.5, float("nan")]})
    '{"loss": null, "scores": [0.5, null]}'
    """
    return json.dumps(known_numbers(content), indent=indent, sort_keys=sort_keys, allow_nan=False)


def parse_json(text: str | bytes) -> Any:
    """Return the content of a JSON text.

    Raises:
        ValueError: it is not JSON, or it is nested so deeply that Python's reader gives up.

    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
    ValueError: it is nested too deeply
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def known_numbers(content: Any) -> Any:
    """Return a copy of what a JSON file holds, in which None stands for each NaN and infinity."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: known_numbers(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [known_numbers(value) for value in content]
    return content
