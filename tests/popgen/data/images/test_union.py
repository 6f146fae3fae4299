"""A union shows every image under each of its variants, whose images are a group each."""

from __future__ import annotations

import pytest
import torch

from popgen.data import load_data
from popgen.data.dataset import SPLITS, Part
from popgen.data.groups import load_groups
from popgen.data.images.union import apply_union
from popgen.data.load import check_data_name
from popgen.errors import BadInput, NotFound


def test_each_variants_images_stand_one_after_the_other() -> None:
    data = load_data("digits/union:plain+rotate:45+noise:0.2")
    assert data.groups == ("plain", "rotate:45", "noise:0.2")
    for group, name in enumerate(("digits", "digits/rotate:45", "digits/noise:0.2")):
        for split in SPLITS:
            whole, alone = (getattr(one, split) for one in (data, load_data(name)))
            mine = whole.groups == group
            assert torch.equal(whole.inputs[mine], alone.inputs) and torch.equal(whole.targets[mine], alone.targets)
            assert len(whole) == 3 * len(alone)


def test_what_follows_keeps_the_groups_of_its_images() -> None:
    data = load_data("digits/union:plain+invert/mirror/classes:3+5")
    part: Part = load_data("digits/mirror/classes:3+5").val
    assert torch.equal(data.val.inputs[: len(part)], part.inputs) and data.groups == ("plain", "invert")
    found = load_groups(data, None)
    assert found.counts == {"invert": len(part), "plain": len(part)} and found.test is not None
    few = load_data("digits/labels:20/union:plain+invert")
    assert few.val is few.train and len(few.val) == 40


@pytest.mark.parametrize("text", ["union", "union:", "union:blur", "union:blur+blur", "union:+"])
def test_a_union_without_several_variants(text: str) -> None:
    with pytest.raises(BadInput, match="does not name two or more different variants\n.*joined by \\+.*\nFor example"):
        check_data_name(f"digits/{text}")


def test_variants_of_a_union_are_checked_before_data_are_read() -> None:
    with pytest.raises(NotFound, match="there is no variant called 'blurr'"):
        check_data_name("nowhere/union:blur+blurr")
    with pytest.raises(BadInput, match="variant 'rotate' needs a number"):
        check_data_name("digits/union:plain+rotate")
    with pytest.raises(BadInput, match="images have groups already: plain, invert\nGive one union: or one style:"):
        apply_union(load_data("digits/style:invert:0.2"), "union:plain+blur")
