"""A style changes a fixed share of the images, says which, and keeps doing so whatever else the name says."""

from __future__ import annotations

import pytest
import torch

from popgen.data import load_data
from popgen.data.dataset import SPLITS, Part
from popgen.data.groups import load_groups
from popgen.data.images.styles import apply_style, check_style
from popgen.data.load import check_data_name, split_name
from popgen.errors import BadInput, NotFound


@pytest.mark.parametrize("variant", ["rotate:45", "invert"])
def test_the_group_of_an_image_says_whether_it_is_changed(variant: str) -> None:
    plain, changed, data = (load_data(f"digits{end}") for end in ("", f"/{variant}", f"/style:{variant}:0.2"))
    assert data.groups == ("plain", variant)
    for split in SPLITS:
        part: Part = getattr(data, split)
        assert part.groups is not None
        for group, source in enumerate((plain, changed)):
            rows = part.groups == group
            assert torch.equal(part.inputs[rows], getattr(source, split).inputs[rows])
        assert torch.equal(part.targets, getattr(plain, split).targets)
        assert float(part.groups.double().mean()) == pytest.approx(0.2, abs=0.04)


def test_the_draw_depends_on_index_and_split_alone() -> None:
    one, other = load_data("digits/style:invert:0.2"), load_data("digits/style:blur:0.2")
    fewer, more = load_data("digits/style:edges:0.1"), load_data("digits/style:edges:0.4")
    for split in SPLITS:
        groups = [getattr(data, split).groups for data in (one, other, fewer, more)]
        assert torch.equal(groups[0], groups[1])
        assert bool((groups[2] <= groups[0]).all()) and bool((groups[0] <= groups[3]).all())
    assert not torch.equal(one.train.groups[:300], one.val.groups[:300])  # type: ignore[index]
    short = load_data("digits/shots:3/style:invert:0.2")
    assert torch.equal(short.train.groups, one.train.groups[:30])  # type: ignore[arg-type, index]


def test_what_follows_keeps_the_groups_of_its_images() -> None:
    whole = load_data("digits/style:invert:0.2")
    some = load_data("digits/style:invert:0.2/classes:3+5/mirror/shots:5")
    kept = (whole.val.targets == 3) | (whole.val.targets == 5)
    assert torch.equal(some.val.groups, whole.val.groups[kept])  # type: ignore[arg-type, index]
    assert some.groups == whole.groups and some.train.groups is not None and len(some.train.groups) == 10


def test_groups_are_those_of_the_style() -> None:
    data = load_data("digits/style:rotate:45:0.2")
    found = load_groups(data, None)
    assert found.names == ("plain", "rotate:45") and found.test is not None
    assert torch.equal(found.index, data.val.groups) and torch.equal(found.test, data.test.groups)  # type: ignore[arg-type]
    inverted = load_groups(load_data("digits/style:invert:0.2"), None)  # names are sorted
    assert inverted.names == ("invert", "plain") and torch.equal(inverted.index, 1 - data.val.groups)  # type: ignore[operator]


@pytest.mark.parametrize(
    "text", ["style", "style:invert", "style:0.2", "style:invert:0", "style:invert:1", "style:rotate:45"]
)
def test_a_style_without_its_share(text: str) -> None:
    with pytest.raises(BadInput, match="does not say which share .*\nit is written style:VARIANT:SHARE.*\nFor example"):
        check_data_name(f"digits/{text}")


def test_other_refusals() -> None:
    with pytest.raises(NotFound, match="no variant called 'invrt'\nnearest known: invert"):
        check_style("style:invrt:0.2")
    with pytest.raises(BadInput, match="variant 'rotate' needs a number"):
        check_style("style:rotate:0.2")
    with pytest.raises(
        BadInput,
        match="'style:invert:0.2' cannot be applied .*\nits images have groups already: plain, edges\nGive one style:",
    ):
        load_data("digits/style:edges:0.2/style:invert:0.2")
    data = apply_style(load_data("digits"), "style:invert:0.5")
    assert split_name("digits/style:rotate:45:0.2/mirror") == ("digits", ["style:rotate:45:0.2", "mirror"])
    assert data.name == "digits"
