"""Describes a data set in words, as a text condition: "digits, rotated by 45 degrees, inverted"."""

from __future__ import annotations

from pathlib import Path

from popgen.data.images.styles import PLAIN, is_style, parse_style
from popgen.data.images.union import is_union, parse_union
from popgen.data.images.variants import VARIANTS, is_mixed, parse_mixed, parse_variant
from popgen.data.load import split_name
from popgen.data.names import CORRUPTIONS
from popgen.data.reading import split_reading
from popgen.data.subsets import SUBSETS, parse_blocks, parse_labels, parse_shots
from popgen.data.text.lines import text_stem
from popgen.data.text.table import stem_of

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
    **{kind: f"with {kind.removesuffix('_c').replace('_', ' ')} of severity {{:g}}" for kind in CORRUPTIONS},
}
assert _PHRASES.keys() == VARIANTS.keys()


def describe(name: str, description: str = "") -> str:
    """Describe a data set in words; angles are brought to [0, 360).

    Args:
        description: the task in words, where the data set has a text of its own (`DataSet.description`). Then of the name counts
            alone which classes are kept: how many examples are labelled is no part of a task.

    Raises:
        NotFound: a size stands behind a variant.
        BadInput: a size or the argument of a modifier has the wrong form.

    >>> describe("digits/rotate:-45/invert")
    'digits, rotated by 315 degrees, inverted'
    >>> describe("food101/size:32/classes:ramen+sushi/shots:5")
    'food101 at 32 pixels, only ramen and sushi, 5 images a class'
    >>> describe("cifar10/mixed:snow_c:5+rotate:90")
    'cifar10, each with snow of severity 5 or rotated by 90 degrees'
    >>> describe("digits/style:invert:0.2")
    'digits, 20 % of them inverted'
    >>> describe("digits/union:plain+invert")
    'digits, as they are and inverted'
    >>> describe("text:data/film_reviews.jsonl.gz/labels:64")
    'texts of film reviews, 64 of them labelled'
    >>> describe("lines:texts/sea.txt.gz/block:64/blocks:16")
    'texts of sea, the first 16 blocks'
    >>> describe("text:mail.csv/classes:spam+ham/shots:8", "Decide what a message is.")
    'Decide what a message is, only spam and ham'
    """
    source, variants = split_name(name)
    if description:
        kept = [_describe_subset(text, "") for text in variants if text.startswith("classes:")]
        return ", ".join([description.rstrip("."), *kept]) if kept else description
    base, reading = split_reading(source)
    is_text = base.startswith(("text:", "lines:"))
    if is_text:
        stem = text_stem if base.startswith("lines:") else stem_of
        base = f"texts of {stem(Path(base.partition(':')[2])).replace('_', ' ')}"
    parts = [base if reading.size is None else f"{base} at {reading.size} pixels"]
    for text in variants:
        if text.partition(":")[0] in SUBSETS:
            parts.append(_describe_subset(text, "texts" if is_text else "images"))
        else:
            parts.append(_describe_images(text))
    return ", ".join(parts)


def _describe_images(text: str) -> str:
    """What a variant, or a modifier that joins several, makes of the images, in words."""
    if is_mixed(text):
        return f"each {' or '.join(map(_describe_variant, parse_mixed(text)))}"
    if is_style(text):
        style = parse_style(text)
        return f"{100 * style.share:g} % of them {_describe_variant(style.variant)}"
    if is_union(text):
        return " and ".join("as they are" if one == PLAIN else _describe_variant(one) for one in parse_union(text))
    return _describe_variant(text)


def _describe_variant(text: str) -> str:
    kind, value = parse_variant(text)
    return _PHRASES[kind].format(value % 360 if kind == "rotate" else value)


def _describe_subset(text: str, noun: str) -> str:
    if text.startswith("shots:"):
        return f"{parse_shots(text)[0]} {noun} a class"
    if text.startswith("blocks:"):
        return f"the first {parse_blocks(text)} blocks"
    if text.startswith("labels:"):
        return f"{parse_labels(text)[0]} of them labelled"
    return f"only {text.partition(':')[2].replace('+', ' and ')}"
