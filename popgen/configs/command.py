"""The command line that gives a search, from its settings."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from popgen.configs.search import FLAT, SearchConfig, flattened

_OPTION = {field: name for name, field in reversed(FLAT.items())}  # at_once before group, its older name
_OPTION["finetune.mode"] = "finetune"


def search_command(config: SearchConfig, out: str | None = None) -> str:
    """Return the `popgen search` command of these settings; options that have their defaults are left out.

    A run that was resumed with a larger budget is the same as one that had it from the start, so that one command gives both.

    >>> search_command(SearchConfig(archs=["cnn-s"], data="digits/rotate:45", sgd={"steps": 2}, rungs=[0.25, 0.5]))
    'popgen search --arch cnn-s --data digits/rotate:45 --sgd-steps 2 --rungs 0.25,0.5'
    >>> search_command(SearchConfig(archs=["cnn-s"], data="digits", finetune={"epochs": [2], "parts": True}))
    'popgen search --arch cnn-s --data digits --finetune-epochs 2 --finetune-parts'
    """
    words = ["popgen", "search", "--arch", ",".join(config.archs), "--data", config.data]
    fresh = SearchConfig(archs=config.archs, data=config.data)
    before, now = (flattened(one.model_dump(mode="json")) for one in (fresh, config))
    for field, value in now.items():
        if value != before[field]:
            option = f"--{_OPTION.get(field, field).replace('_', '-')}"
            words += [option] if value is True else [option, _word(value)]  # what is off is the default
    return shlex.join(words if out is None else [*words, "--out", out])


def _word(value: Any) -> str:
    """A value as the command line reads it."""
    assert not isinstance(value, Mapping), "sections are flattened"
    return ",".join(map(_word, value)) if isinstance(value, list) else str(value)
