"""Several tasks in one data set: `digits/union:plain+rotate:90+invert` shows every image under each of several variants.

The images of a variant are the group of its name, so that the accuracy is the mean over the tasks, and measures of groups know the worst one.
An image's copies are all in one split.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from popgen.data.dataset import DataSet, Part
from popgen.data.images.styles import PLAIN
from popgen.data.images.variants import apply_variants, parse_variant
from popgen.data.names import UNION
from popgen.errors import BadInput


def is_union(text: str) -> bool:
    """Whether a modifier is a union, `union:A+B+C`.

    >>> is_union("union:blur+invert"), is_union("mixed:blur+invert")
    (True, False)
    """
    return text.partition(":")[0] == UNION


def parse_union(text: str) -> list[str]:
    """Parse a union into its variants; `plain` stands for the images as they are.

    Raises:
        NotFound: there is no such variant.
        BadInput: there are fewer than two variants, one stands there twice, or the argument of one is missing or wrong.

    >>> parse_union("union:plain+rotate:90+blur")
    ['plain', 'rotate:90', 'blur']
    """
    found = text.partition(":")[2].split("+")
    if len(set(found)) < max(2, len(found)):
        raise BadInput(
            f"{text!r} does not name two or more different variants",
            f"it shows every image under each of several, which are joined by +; {PLAIN} leaves images as they are",
            f"For example {UNION}:{PLAIN}+noise:0.06+jpeg:20.",
        )
    for one in found:
        if one != PLAIN:
            parse_variant(one)
    return found


def apply_union(data: DataSet, text: str) -> DataSet:
    """Show every image of each split under each of the variants, one variant after the other.

    Raises:
        NotFound, BadInput: as `parse_union`; or the data set has groups already.

    >>> from popgen.data import load_data
    >>> data = apply_union(load_data("digits"), "union:plain+invert")
    >>> data.groups, len(data.val), data.val.groups.bincount().tolist()
    (('plain', 'invert'), 600, [300, 300])
    """
    if data.groups:
        raise BadInput(
            f"{text!r} cannot be applied to {data.name!r}",
            f"its images have groups already: {', '.join(data.groups)}",
            f"Give one {UNION}: or one style:.",
        )
    variants = parse_union(text)

    def repeated(part: Part) -> Part:
        shown = [part.inputs if one == PLAIN else apply_variants(part.inputs, [one]) for one in variants]
        groups = torch.arange(len(variants)).repeat_interleave(len(part))
        return Part(torch.cat(shown), part.targets.repeat(len(variants)), groups)

    return replace(data.each(repeated), groups=tuple(variants))
