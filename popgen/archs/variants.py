"""Options in an architecture's name: `cnn-s/channels:12-24`, `resnet-s/widths:8-32/blocks:2`.

As with variants of a data set, the name describes the variant completely. Each option must exist in the architecture
and may be given once; its value must have the type of the original, and a list is written with dashes.
"""

from __future__ import annotations

import re
from typing import Any

from popgen.errors import BadInput, near_matches, unknown_name

# Limits that refuse a typing error before its network takes all memory.
_LARGEST_NUMBER = 4096
_LONGEST_LIST = 64
_CHOICES = {"shortcut": ("A", "B")}  # option -> its allowed values


def split_options(name: str) -> tuple[str, list[str]]:
    """Split a name into the architecture's own name and the texts of its options.

    The own name of a language model or a classifier of transformers may be a path, so that its options are what ends the name and has a
    colon.

    >>> split_options("resnet-s/widths:8-32/blocks:2")
    ('resnet-s', ['widths:8-32', 'blocks:2'])
    >>> split_options("lm:models/tiny/context:64")
    ('lm:models/tiny', ['context:64'])
    """
    base, *options = name.split("/")
    if name.startswith(("lm:", "hf:")):
        while options and ":" not in options[0]:
            base = f"{base}/{options.pop(0)}"
    return base, options


def parse_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return an architecture's options with those in its name replaced.

    Args:
        name: the architecture's name with options.
        options: the options of the architecture without them.

    Raises:
        NotFound: the architecture does not have this option.
        BadInput: an option has no value, is given twice, or has a value that does not fit.

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
    """Parse the options in the name of a network from outside, where only the builder knows which options exist.

    The type of a value follows from its form: an integer, a decimal number, true or false, a list of integers with
    dashes between them, or else a string.

    Raises:
        BadInput: an option has no value, or is given twice.

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
        found[key] = _infer_value(value)
    return found


def _infer_value(text: str) -> Any:
    """The value of a text by its form: int, float, list of int, bool, or else the text itself."""
    if re.fullmatch(r"\d+", text, re.ASCII):
        return int(text)
    if re.fullmatch(r"\d*\.\d+", text, re.ASCII):
        return float(text)
    if re.fullmatch(r"\d+(-\d+)+", text, re.ASCII):
        return [int(item) for item in text.split("-")]
    return text == "true" if text in ("true", "false") else text


def _value(name: str, key: str, text: str, original: Any) -> Any:
    """The value of a text, with the type of the option's original value."""
    if isinstance(original, (list, tuple)):
        items = text.split("-")
        if len(items) > _LONGEST_LIST:
            raise BadInput(
                f"architecture {name!r}: {key} has {len(items)} entries", f"at most {_LONGEST_LIST} are built", ""
            )
        return [_number(name, key, item, text) for item in items]
    if isinstance(original, int) and not isinstance(original, bool):
        return _number(name, key, text, text)
    choices = _CHOICES.get(key)
    if not isinstance(original, str) or (choices is not None and text not in choices):
        raise BadInput(
            f"architecture {name!r}: {key} cannot be {text!r}",
            f"nearest known: {near_matches(text, choices)}"
            if choices
            else f"its value {original!r} is neither a number, a list nor a word, so a name cannot change it",
            "" if choices else "Give it in the spec of a zoo (archs: [{name: ..., like: ..., options: ...}]).",
        )
    return text


def _number(name: str, key: str, item: str, text: str) -> int:
    """The integer in `item`, which is all or one entry of the option's text."""
    if not (item.isascii() and item.isdigit() and 1 <= int(item) <= _LARGEST_NUMBER):
        raise BadInput(
            f"architecture {name!r}: {key} has {item!r} in {text!r}",
            f"each number is whole, from 1 to {_LARGEST_NUMBER}; a list is written with dashes",
            f"For example {key}:12-24.",
        )
    return int(item)


def _written(value: Any) -> str:
    """A value as it stands in a name: the inverse of `_value`."""
    return "-".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
