"""An architecture with other options, written behind its name: `cnn-s/channels:12-24`, `resnet-s/widths:8-32/blocks:2`.

As with variants of a data set, the name says everything: only options that the architecture has may be given, each once, a list by
dashes, each value of the type that stands there.
"""

from __future__ import annotations

import re
from typing import Any

from popgen.errors import BadInput, near_matches, unknown_name

LARGEST, LONGEST = 4096, 64  # of a number and of a list: a typing error is refused before it takes all memory
_CHOICES = {"shortcut": ("A", "B")}


def split_options(name: str) -> tuple[str, list[str]]:
    """The architecture's name and the options behind it.

    >>> split_options("resnet-s/widths:8-32/blocks:2")
    ('resnet-s', ['widths:8-32', 'blocks:2'])
    """
    base, *options = name.split("/")
    return base, options


def parse_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options of an architecture called `name`, whose own are `options`, with those in the name replaced.

    Raises:
        NotFound: an option that the architecture has not.
        BadInput: an option without a value, given twice, or with a value that does not fit.

    >>> parse_options("resnet-s/blocks:2", {"widths": [8, 16], "blocks": 1})
    {'widths': [8, 16], 'blocks': 2}
    """
    base, texts = split_options(name)
    found: dict[str, Any] = {}
    for text in texts:
        key, colon, value = text.partition(":")
        if key not in options:
            known = ", ".join(f"{k}:{_written(v)}" for k, v in options.items())
            raise unknown_name(
                f"option of {base!r}", key, options, f"Its own are {known}." if known else f"{base!r} has no options."
            )
        if key in found:
            raise BadInput(f"architecture {name!r} gives {key} twice", "", "Give each option once.")
        if not colon or not value:
            raise BadInput(
                f"architecture {name!r}: {key} has no value", "", f"For example {base}/{key}:{_written(options[key])}."
            )
        found[key] = _value(name, key, value, options[key])
    return {**options, **found}


def free_options(name: str, texts: list[str]) -> dict[str, Any]:
    """The options behind the name of a network from outside, whose builder alone knows which it takes.

    A value is what it looks like: a whole number, a decimal one, true or false, whole numbers with dashes between, or else a text.

    Raises:
        BadInput: an option without a value, or given twice.

    >>> free_options("timm:resnet18", ["in_chans:1", "drop_rate:0.1", "act_layer:gelu"])
    {'in_chans': 1, 'drop_rate': 0.1, 'act_layer': 'gelu'}
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, _, value = text.partition(":")
        if not value or not key.isidentifier():
            raise BadInput(f"architecture {name!r}: {text!r} is no option", "", "Write options as /name:value.")
        if key in found:
            raise BadInput(f"architecture {name!r} gives {key} twice", "", "Give each option once.")
        found[key] = _looks_like(value)
    return found


def _looks_like(text: str) -> Any:
    if re.fullmatch(r"\d+", text, re.ASCII):
        return int(text)
    if re.fullmatch(r"\d*\.\d+", text, re.ASCII):
        return float(text)
    if re.fullmatch(r"\d+(-\d+)+", text, re.ASCII):
        return [int(item) for item in text.split("-")]
    return text == "true" if text in ("true", "false") else text


def _value(name: str, key: str, text: str, original: Any) -> Any:
    if isinstance(original, (list, tuple)):
        items = text.split("-")
        if len(items) > LONGEST:
            raise BadInput(f"architecture {name!r}: {key} has {len(items)} entries", f"at most {LONGEST} are built", "")
        return [_number(name, key, item, text) for item in items]
    if isinstance(original, int) and not isinstance(original, bool):
        return _number(name, key, text, text)
    choices = _CHOICES.get(key)
    if not isinstance(original, str) or (choices is not None and text not in choices):
        raise BadInput(
            f"architecture {name!r}: {key} cannot be {text!r}",
            f"nearest known: {near_matches(text, choices)}"
            if choices
            else f"it is {original!r}, which no name changes",
            "" if choices else "Give it in the spec of a zoo (archs: [{name: ..., like: ..., options: ...}]).",
        )
    return text


def _number(name: str, key: str, item: str, text: str) -> int:
    if not (item.isascii() and item.isdigit() and 1 <= int(item) <= LARGEST):
        raise BadInput(
            f"architecture {name!r}: {key} has {item!r} in {text!r}",
            f"each number is whole, from 1 to {LARGEST}; a list is written with dashes",
            f"For example {key}:12-24.",
        )
    return int(item)


def _written(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
