"""Variants keep splits and labels, and change the pixels as their formulas say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from popgen.data import VARIANTS, DataSet, Part, describe, load_data
from popgen.data.images.variants import NOISE_SEED, apply_variants, parse_mixed, parse_variant, rotate
from popgen.data.names import CORRUPTIONS
from popgen.errors import BadInput, NotFound, PopgenError
from popgen.files import safe_name


def keys(part: Part) -> set[bytes]:
    return {image.numpy().tobytes() for image in part.inputs}


def parts(data: DataSet) -> list[Part]:
    return [data.train, data.val, data.test]


@pytest.mark.parametrize(
    "variant",
    [
        f"{name}:{45 if high > 45 else 2}" if default is None else name
        for name, (_, default, _, high) in VARIANTS.items()
    ],
)
def test_a_variant_of_an_image_is_in_the_split_of_the_image(variant: str) -> None:
    plain, data = load_data("digits"), load_data(f"digits/{variant}")
    assert data.classes == plain.classes
    for changed, other in zip(parts(data), parts(plain), strict=True):
        assert torch.equal(changed.targets, other.targets)
        assert changed.inputs.shape == other.inputs.shape
        assert 0 <= changed.inputs.min() < changed.inputs.max() <= 1
        assert torch.equal(changed.inputs, apply_variants(other.inputs, [variant]))
        # Grey images have no colour to change.
        assert torch.equal(changed.inputs, other.inputs) == (variant in ("desaturate", "chroma"))
    if variant != "threshold":  # Different digits may have the same pixels above the threshold.
        assert not keys(data.train) & keys(data.test)
        assert not keys(data.train) & keys(data.val)


def same(images: Tensor, *variants: str, tolerance: float = 1e-5) -> bool:
    return torch.allclose(apply_variants(images, list(variants)), images, atol=tolerance)


def test_whole_turns_and_double_flips_change_nothing() -> None:
    images = load_data("digits").val.inputs
    for variants in (
        ["rotate:0"],
        ["rotate:360"],
        ["rotate:-360"],
        ["rotate:90"] * 4,
        ["rotate:180"] * 2,
        ["rotate:90", "rotate:-90"],
        ["mirror", "mirror"],
        ["invert", "invert"],
        ["contrast:1"],
        ["noise:0"],
        ["brightness:0"],
        ["gamma:1"],
        ["pixelate:1"],
        ["chroma:1"],
        ["desaturate:0"],
        ["impulse:0"],
        ["motion:1"],
        ["posterize:17"],  # the digits have 17 grey values anyway
    ):
        assert same(images, *variants), variants
    for variants in (["rotate:90"], ["rotate:180"], ["mirror"], ["invert"], ["rotate:90", "mirror"]):
        assert not same(images, *variants, tolerance=0.5), variants


def test_a_quarter_turn_is_counter_clockwise() -> None:
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 0, 7] = 1  # the top right corner moves to the top left
    turned = apply_variants(image, ["rotate:90"])
    assert torch.allclose(turned, torch.rot90(image, 1, (2, 3)), atol=1e-5)
    assert turned[0, 0, 0, 0] > 0.99


def test_variants_by_closed_forms() -> None:
    step = torch.zeros(1, 1, 8, 8)
    step[..., 4:] = 1
    edges = apply_variants(step, ["edges"])
    assert torch.equal(edges[0, 0, 3], torch.tensor([0, 0, 0, 1.0, 1, 0, 0, 0]))
    grey_levels = torch.tensor([0.0, 0.25, 0.5, 0.75]).view(1, 1, 2, 2)
    assert apply_variants(grey_levels, ["contrast:2"]).flatten().tolist() == [0, 0, 0.5, 1]
    assert apply_variants(grey_levels, ["threshold"]).flatten().tolist() == [0, 0, 0, 1]
    flat = torch.full((2, 1, 8, 8), 0.3)
    assert same(flat, "blur:1.5")
    noisy = apply_variants(torch.full((50, 1, 8, 8), 0.5), ["noise:0.1"])
    assert abs(float(noisy.std()) - 0.1) < 0.005
    assert apply_variants(grey_levels, ["brightness:0.5"]).flatten().tolist() == [0.5, 0.75, 1, 1]
    assert apply_variants(grey_levels, ["gamma:2"]).flatten().tolist() == [0, 0.0625, 0.25, 0.5625]
    # 0.5 is rounded to the even number, 0.
    assert apply_variants(grey_levels, ["posterize:2"]).flatten().tolist() == [0, 0, 0, 1]
    assert apply_variants(grey_levels, ["pixelate:2"]).flatten().tolist() == [0.375] * 4
    assert torch.allclose(apply_variants(step, ["motion:2"])[0, 0, 3], torch.tensor([0, 0, 0, 0.5, 1, 1, 1, 1]))
    pepper = apply_variants(torch.full((50, 1, 8, 8), 0.5), ["impulse:0.2"])
    assert abs(float((pepper != 0.5).float().mean()) - 0.2) < 0.02
    assert set(pepper.unique().tolist()) == {0, 0.5, 1}


def test_variants_of_colours() -> None:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    grey = apply_variants(images, ["desaturate:1"])
    assert torch.equal(grey[:, 0], grey[:, 2])
    assert torch.allclose(grey[:, :1], (images * luma).sum(1, keepdim=True))
    for variant in ("chroma:4", "desaturate:0.7"):  # neither of them changes the brightness
        changed = apply_variants(images, [variant])
        assert torch.allclose((changed * luma).sum(1), (images * luma).sum(1), atol=1e-5)
        assert not torch.allclose(changed, images, atol=0.05)
    assert same(grey, "chroma:4")
    worse = [float((apply_variants(grey, [f"jpeg:{quality}"]) - grey).abs().mean()) for quality in (100, 50, 10)]
    assert worse == sorted(worse)
    assert worse[0] < 0.01 < worse[2]


def test_variants_have_a_default_or_need_a_number() -> None:
    for name, (_, default, low, high) in VARIANTS.items():
        if default is None:
            with pytest.raises(BadInput, match=f"variant '{name}' needs a (whole )?number"):
                parse_variant(name)
        else:
            assert low <= default <= high
            assert parse_variant(name) == (name, default)


@pytest.mark.parametrize("degrees", [5.0, 45.0, 90.0, -33.3, 359.5])
def test_rotation_is_that_of_torchvision_to_the_last_digit(degrees: float) -> None:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as TF

    for shape in [(7, 1, 8, 8), (2, 3, 20, 33)]:
        images = torch.rand(shape)
        assert torch.equal(rotate(images, degrees), TF.rotate(images, degrees, InterpolationMode.BILINEAR))


def test_a_seed_changes_random_variants_only() -> None:
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for variant in ("noise:0.1", "impulse:0.2"):
        assert torch.equal(apply_variants(images, [variant]), apply_variants(images, [variant], seed=NOISE_SEED))
        other = apply_variants(images, [variant], seed=1)
        assert not torch.equal(apply_variants(images, [variant]), other)
        assert torch.equal(other, apply_variants(images, [variant], seed=1))
    assert torch.equal(apply_variants(images, ["blur:1"]), apply_variants(images, ["blur:1"], seed=1))


def test_a_mixture_gives_each_image_one_of_its_variants() -> None:
    images = torch.rand(60, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    mixed = apply_variants(images, ["mixed:invert+rotate:90+brightness_c:5"])
    inverted, turned = apply_variants(images, ["invert"]), apply_variants(images, ["rotate:90"])
    bright = apply_variants(images, ["brightness_c:5"])
    kinds = [(mixed == whole).flatten(1).all(1) for whole in (inverted, turned, bright)]
    assert torch.equal(sum(kind.long() for kind in kinds), torch.ones(60, dtype=torch.long))
    assert min(int(kind.sum()) for kind in kinds) > 10
    assert torch.equal(mixed[:7], apply_variants(images[:7], ["mixed:invert+rotate:90+brightness_c:5"]))
    assert not torch.equal(mixed, apply_variants(images, ["mixed:invert+rotate:90+brightness_c:5"], seed=1))


def test_all_corruptions_in_one_stream() -> None:
    images = torch.rand(100, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    spelt = "+".join(f"{kind}:5" for kind in CORRUPTIONS)
    mixed = apply_variants(images, ["mixed:all_c:5"])
    assert torch.equal(mixed, apply_variants(images, [f"mixed:{spelt}"]))
    assert (mixed != images).flatten(1).any(1).all()
    assert parse_mixed("mixed:noise:0.1+all_c:1")[:2] == ["noise:0.1", "gaussian_noise_c:1"]


def test_a_mixture_is_part_of_a_name() -> None:
    name = "digits/mixed:jpeg_compression_c:5+noise/invert"
    plain, data = load_data("digits"), load_data(name)
    assert torch.equal(data.test.inputs, apply_variants(plain.test.inputs, name.split("/")[1:]))
    assert describe(name) == "digits, each with jpeg compression of severity 5 or with noise of 0.1, inverted"
    assert safe_name(name) == "digits-mixed-jpeg_compression_c-5+noise-invert"


@pytest.mark.parametrize(
    ("variant", "error", "said"),
    [
        ("mixed", BadInput, "names fewer than two variants"),
        ("mixed:invert", BadInput, "names fewer than two variants\n.*\nFor example mixed:noise:0.06"),
        ("mixed:invert+mixed:jpeg", BadInput, "is a mixture of mixtures"),
        ("mixed:invert+jpeg:200", BadInput, "'200' is not in its range"),
        (
            "mixed:all_c",
            BadInput,
            "'gaussian_noise_c' needs a whole number\nfrom 1 to 5\nFor example gaussian_noise_c:5",
        ),
        ("mixed:invert+gausian_noise_c:5", NotFound, "gaussian_noise_c"),
        ("all_c:5", NotFound, "digits/mixed:all_c:5"),
    ],
)
def test_mixtures_that_are_refused(variant: str, error: type[PopgenError], said: str) -> None:
    with pytest.raises(error, match=said):
        load_data(f"digits/{variant}")
