"""Data with two groups, made from any images: `digits/style:invert:0.2` changes a share of the images, and knows which.

The changed images are the group of the variant's name, the others the group `plain`. Whether an image is changed is drawn from its index in
its split and from nothing else, so that the groups are the same whatever the variant is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from popgen.data.dataset import SPLITS, DataSet, Part
from popgen.data.images.corruptions.pixels import draws
from popgen.data.images.variants import apply_variants, parse_variant
from popgen.data.names import STYLE
from popgen.errors import BadInput

PLAIN = "plain"  # the group of the images that are not changed
_SEED = 6_021  # arbitrary, but fixed: another seed would change other images


@dataclass(frozen=True)
class Style:
    """A variant, and the share of the images that it changes, above 0 and below 1."""

    variant: str
    share: float


def is_style(text: str) -> bool:
    """Whether a modifier is a style, `style:VARIANT:SHARE`.

    >>> is_style("style:rotate:90:0.2"), is_style("rotate:90")
    (True, False)
    """
    return text.partition(":")[0] == STYLE


def parse_style(text: str) -> Style:
    """Parse `style:VARIANT:SHARE`, where the variant may have an argument.

    Raises:
        NotFound: there is no such variant.
        BadInput: the share is missing or not between 0 and 1, or the variant's argument is missing or wrong.

    >>> parse_style("style:rotate:90:0.2")
    Style(variant='rotate:90', share=0.2)
    """
    variant, _, last = text.partition(":")[2].rpartition(":")
    try:
        share = float(last)
    except ValueError:
        share = float("nan")
    if not variant or not 0 < share < 1:
        raise BadInput(
            f"{text!r} does not say which share of the images is changed",
            f"it is written {STYLE}:VARIANT:SHARE, with a share above 0 and below 1",
            f"For example {STYLE}:invert:0.2, or {STYLE}:rotate:90:0.2.",
        )
    parse_variant(variant)
    return Style(variant, share)


def check_style(text: str) -> None:
    """Refuse a style that cannot be applied.

    Raises:
        NotFound, BadInput: as `parse_style`.
    """
    parse_style(text)


def apply_style(data: DataSet, text: str) -> DataSet:
    """Change a share of the images of each split, and give each image its group.

    Raises:
        NotFound, BadInput: as `parse_style`; or the data set has groups already.

    >>> from popgen.data import load_data
    >>> data = apply_style(load_data("digits"), "style:invert:0.2")
    >>> data.groups, data.val.groups.bincount().tolist()
    (('plain', 'invert'), [242, 58])
    """
    if data.groups:
        raise BadInput(
            f"{text!r} cannot be applied to {data.name!r}",
            f"its images have groups already: {', '.join(data.groups)}",
            f"Give one {STYLE}:.",
        )
    style = parse_style(text)
    train, val, test = (_styled(getattr(data, split), style, number) for number, split in enumerate(SPLITS))
    val = train if data.val is data.train else val
    return replace(data, train=train, val=val, test=test, groups=(PLAIN, style.variant))


def _styled(part: Part, style: Style, split: int) -> Part:
    """One split with some of its images changed; the numbers are drawn image by image."""
    drawn = torch.from_numpy(draws((_SEED, split)).random_sample(len(part))) < style.share
    images = part.inputs.clone()
    images[drawn] = apply_variants(part.inputs[drawn], [style.variant])
    return replace(part, inputs=images, groups=drawn.long())
