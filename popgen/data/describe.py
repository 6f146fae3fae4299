"""A data set's name in words, for conditions that are given as text: "digits, rotated by 45 degrees, inverted"."""

from __future__ import annotations

from popgen.data.datasets import split_name
from popgen.data.variants import VARIANTS, parse_variant

_PHRASES = {
    "rotate": "rotated by {:g} degrees",
    "invert": "inverted",
    "blur": "blurred with sigma {:g}",
    "edges": "edges only",
    "mirror": "mirrored",
    "noise": "with noise of {:g}",
    "contrast": "with contrast {:g}",
    "threshold": "thresholded at {:g}",
    "brightness": "brightened by {:g}",
    "gamma": "with gamma {:g}",
    "pixelate": "pixelated by {:g}",
    "posterize": "in {:g} levels",
    "desaturate": "desaturated by {:g}",
    "chroma": "with colours at resolution 1/{:g}",
    "impulse": "with impulse noise of {:g}",
    "motion": "with motion blur of {:g} pixels",
    "jpeg": "as JPEG of quality {:g}",
}
assert _PHRASES.keys() == VARIANTS.keys()


def describe(name: str) -> str:
    """The name of a data set in words; angles from 0 to 360.

    >>> describe("digits/rotate:-45/invert")
    'digits, rotated by 315 degrees, inverted'
    """
    source, variants = split_name(name)
    parts = [source]
    for text in variants:
        kind, value = parse_variant(text)
        parts.append(_PHRASES[kind].format(value % 360 if kind == "rotate" else value))
    return ", ".join(parts)
