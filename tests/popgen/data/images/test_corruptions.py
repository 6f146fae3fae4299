"""The corruptions of CIFAR-10-C: their formulas, their random numbers, and what networks make of them."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from popgen.archs import build
from popgen.data import load_data
from popgen.data.images.corruptions.blur import streaked
from popgen.data.images.corruptions.pixels import mirror, reflect, sampled, zoomed
from popgen.data.images.variants import apply_variants
from popgen.data.names import CORRUPTIONS
from popgen.errors import BadInput
from popgen.zoo.imports.loading import read_content

REAL = Path(__file__).parents[5] / "shared" / "data"
RANDOM = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "glass_blur",
    "motion_blur",
    "snow",
    "frost",
    "fog",
    "elastic",
)
# Accuracies in percent of a ResNet56 (92.8 on clean images) on the published images, mean of all severities, in the
# order of CORRUPTIONS. They are those of github.com/tanimutomo/cifar10-c-eval, which has the design of the checkpoint below.
PUBLISHED = (48.7, 59.5, 56.0, 82.0, 51.8, 77.7, 77.3, 78.2, 74.5, 85.4, 91.3, 73.1, 83.3, 73.8, 80.1)


def pictures(count: int = 3, channels: int = 3, height: int = 32, width: int = 32) -> Tensor:
    """Blotches of colour with grain, as whole 255ths."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return ((0.8 * smooth + 0.2 * torch.rand(smooth.shape, generator=generator)) * 255).round() / 255


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_corruptions_keep_the_shape_and_make_bytes(kind: str) -> None:
    for images in (pictures(), pictures(channels=1), pictures(height=20, width=45)):
        for severity in (1, 5):
            changed = apply_variants(images, [f"{kind}:{severity}"])
            assert changed.shape == images.shape
            assert changed.dtype == images.dtype
            assert 0 <= changed.min() < changed.max() <= 1
            assert torch.equal(changed, (changed * 255).round() / 255)
            assert not torch.equal(changed, images)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_random_numbers_belong_to_a_seed_and_an_images_position(kind: str) -> None:
    images = pictures(8)
    changed = apply_variants(images, [f"{kind}:5"])
    assert torch.equal(changed, apply_variants(images, [f"{kind}:5"]))
    assert torch.equal(changed[:3], apply_variants(images[:3], [f"{kind}:5"])), "more images would change the first"
    random = kind.startswith(RANDOM)
    for seed in (1, 2**40, -3):
        assert torch.equal(changed, apply_variants(images, [f"{kind}:5"], seed=seed)) != random
    twins = apply_variants(images[:1].expand(8, -1, -1, -1), [f"{kind}:5"])
    assert torch.equal(twins[0], twins[1]) != random, "each image has draws of its own"


def test_draws_go_on_beyond_a_block() -> None:
    images = pictures(1, height=8, width=8).expand(1002, -1, -1, -1)
    changed = apply_variants(images, ["gaussian_noise_c:5"])
    assert len({one.numpy().tobytes() for one in changed}) == 1002


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_higher_severity_is_farther_from_the_image(kind: str) -> None:
    images = pictures(20)
    distances = [
        float((apply_variants(images, [f"{kind}:{severity}"]) - images).square().mean()) for severity in range(1, 6)
    ]
    if kind == "glass_blur_c":  # A stronger blur covers the moved pixels: published error rates are not ordered either.
        assert max(distances[:3]) < min(distances[3:])
    elif kind == "elastic_transform_c":  # Its affine map gets weaker as the moves of single pixels get stronger.
        assert min(distances) > 0
    elif kind == "frost_c":  # From severity 3 on it also darkens, which brings whitened images back.
        assert distances[0] < min(distances[1:])
    else:
        assert distances == sorted(distances)
        assert distances[0] < distances[4]


# Five pixels of the eighth picture at severity 3.
PIXELS = {
    "gaussian_noise_c": [81, 67, 72, 29, 95],
    "shot_noise_c": [94, 76, 66, 58, 45],
    "impulse_noise_c": [71, 80, 66, 59, 63],
    "defocus_blur_c": [73, 78, 73, 69, 75],
    "glass_blur_c": [72, 78, 77, 67, 68],
    "motion_blur_c": [81, 78, 73, 77, 100],
    "zoom_blur_c": [73, 81, 73, 69, 74],
    "snow_c": [88, 98, 84, 132, 80],
    "frost_c": [113, 120, 99, 65, 75],
    "fog_c": [106, 111, 104, 102, 108],
    "brightness_c": [91, 102, 80, 72, 76],
    "contrast_c": [102, 106, 100, 97, 99],
    "elastic_transform_c": [80, 71, 61, 70, 80],
    "pixelate_c": [71, 84, 72, 72, 77],
    "jpeg_compression_c": [61, 68, 72, 73, 81],
}


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_name_means_the_same_pixels_for_ever(kind: str) -> None:
    found = apply_variants(pictures(8), [f"{kind}:3"])[7, 1, 16, 10:15].mul(255).round().long().tolist()
    # Where a mathematical library rounds otherwise, a value may be cut to the byte beside.
    assert found == pytest.approx(PIXELS[kind], abs=1)


def test_noise_has_the_published_strength() -> None:
    grey = torch.full((30, 3, 32, 32), 128 / 255)
    assert abs(float(apply_variants(grey, ["gaussian_noise_c:5"]).std()) - 0.1) < 0.001
    photons = 50  # severity 5; the standard deviation of a Poisson number is the root of its mean
    assert abs(float(apply_variants(grey, ["shot_noise_c:5"]).std()) - (128 / 255 / photons) ** 0.5) < 0.001
    hit = apply_variants(grey, ["impulse_noise_c:5"])
    assert abs(float((hit == 0).float().mean()) - 0.035) < 0.003
    assert abs(float((hit == 1).float().mean()) - 0.035) < 0.003
    assert bool(((hit == 0).sum(1) == 1).any()), "colours are hit one by one"


def test_deterministic_kinds_by_closed_forms() -> None:
    flat = torch.full((1, 3, 32, 32), 100 / 255)
    flat[:, 1] = 50 / 255
    for kind in ("defocus_blur", "zoom_blur", "glass_blur", "motion_blur", "pixelate", "elastic_transform", "contrast"):
        assert (apply_variants(flat, [f"{kind}_c:5"]) - flat).abs().max() <= 1.01 / 255, kind
    bright = apply_variants(flat, ["brightness_c:5"]).mul(255)[0, :, 0, 0]  # hue and saturation stay: 2 to 1
    assert bright.round().tolist() == [176, 88, 176]
    assert apply_variants(torch.zeros(1, 3, 8, 8), ["brightness_c:1"]).unique().mul(255).tolist() == [12]
    step = torch.zeros(1, 1, 8, 8)
    step[..., 4:] = 1
    assert apply_variants(step, ["contrast_c:5"]).mul(255).unique().tolist() == [108, 146]  # 127.5 - and + 0.15 x 127.5
    dot = torch.zeros(1, 1, 32, 32)
    dot[..., 9, 9] = 1
    assert apply_variants(dot, ["defocus_blur_c:5"])[0, 0, 8:11, 8:11].min() > 0.1  # nearly a square of 3 x 3 pixels
    assert apply_variants(dot, ["defocus_blur_c:5"])[0, 0, 9, 13] == 0


def test_jpeg_and_pixelation_are_those_of_pillow() -> None:
    images = pictures(1)
    image = Image.fromarray(images[0].mul(255).byte().permute(1, 2, 0).numpy())
    file = BytesIO()
    image.save(file, "JPEG", quality=40)
    small = image.resize((20, 20), Image.Resampling.BOX).resize((32, 32), Image.Resampling.BOX)
    for kind, expected in (("jpeg_compression_c", Image.open(file)), ("pixelate_c", small)):
        changed = apply_variants(images, [f"{kind}:5"])[0].mul(255).round().permute(1, 2, 0).numpy()
        assert np.array_equal(changed, np.asarray(expected)), kind


def test_glass_takes_each_pixel_from_above_or_the_left() -> None:
    numbered = torch.arange(256).view(1, 1, 16, 16) / 255
    moved = apply_variants(numbered, ["glass_blur_c:1"]).mul(255).round().long()[0, 0]  # severity 1 does not blur
    shift = torch.arange(256).view(16, 16) - moved
    assert set(shift[2:, 2:].unique().tolist()) == {0, 1, 16, 17}
    assert not shift[:2].any()
    assert not shift[:, :2].any()


def test_motion_runs_along_a_line() -> None:
    pixels = np.zeros((2, 21, 21, 1), np.uint8)
    pixels[:, 10, 10] = 255
    right, down = streaked(pixels, 6, 2.0, np.array([0.0, 90.0]))[..., 0]
    weights = np.exp(-(np.arange(13) ** 2) / 8)
    assert np.allclose(right[10, 10::-1][:11], 255 * weights[:11] / weights.sum(), atol=0.5)
    assert np.array_equal(right.T, down)
    assert np.count_nonzero(right) == np.count_nonzero(right[10])


def test_fog_keeps_the_brightest_value_and_snow_falls_on_both_ends() -> None:
    images = pictures(20)
    for severity in range(1, 6):
        assert (apply_variants(images, [f"fog_c:{severity}"]).amax((1, 2, 3)) <= images.amax((1, 2, 3)) + 1 / 255).all()
    white = apply_variants(torch.zeros(4, 1, 32, 32), ["snow_c:3"])
    assert torch.equal(white, white.rot90(2, (2, 3)))
    assert (white >= 12 / 255).all()


def test_positions_between_pixels_are_read_as_scipy_does() -> None:
    from scipy.ndimage import map_coordinates, zoom

    rng = np.random.RandomState(0)
    images, (rows, columns) = rng.uniform(size=(2, 9, 12, 1)), rng.uniform(-8, 20, size=(2, 2, 9, 12))
    for fold, mode in ((mirror, "mirror"), (reflect, "reflect")):
        found = sampled(images, rows, columns, fold)
        for one, result, where in zip(images, found, zip(rows, columns, strict=True), strict=True):
            assert np.allclose(result[..., 0], map_coordinates(one[..., 0], where, order=1, mode=mode))
    square = rng.uniform(size=(1, 32, 32, 1))
    large = zoom(square[0, 6:26, 6:26, 0], 1.6, order=1)  # 32 / 1.6 = 20 pixels are kept
    assert np.allclose(zoomed(square, 1.6)[0, ..., 0], large)


@pytest.mark.parametrize(("shape", "said"), [((1, 4, 32, 32), "4 x 32 x 32"), ((1, 3, 32, 7), "3 x 32 x 7")])
def test_other_images_are_refused(shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(BadInput, match=f"fog_c cannot be applied to images of {said} values\n.*\nUse another variant"):
        apply_variants(torch.rand(shape), ["fog_c:1"])


@pytest.mark.parametrize("severity", ["", ":", ":0", ":6", ":2.5", ":high", ":nan"])
def test_severities_are_whole_numbers_from_1_to_5(severity: str) -> None:
    with pytest.raises(BadInput, match="whole number\n?.*from 1 to 5"):
        load_data(f"digits/snow_c{severity}")


@pytest.mark.real
@pytest.mark.slow  # 15,000 images through a ResNet56
@pytest.mark.skipif(not (REAL / "checkpoints").exists(), reason="needs the published checkpoints")
def test_a_published_network_errs_as_often_as_its_like_on_the_published_images() -> None:
    """Each severity has 200 images. An accuracy of 75 % on 1,000 images is uncertain by 1.4 points, twice trained networks differ."""
    cifar = load_data(f"npz:{REAL / 'cifar10' / 'cifar10.npz'}")
    images, labels = cifar.test.inputs, cifar.test.targets
    file = REAL / "checkpoints" / "cifar10_resnet" / "resnet56_akamaster.th"
    stored = read_content(file)["state_dict"]
    network = build("resnet56", seed=0).eval()
    network.load_state_dict({name.removeprefix("module."): tensor for name, tensor in stored.items()})
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
    gains = {}
    for kind, accuracy in zip(CORRUPTIONS, PUBLISHED, strict=True):
        parts = [apply_variants(part, [f"{kind}:{1 + step}"]) for step, part in enumerate(images.split(200))]
        with torch.no_grad():
            right = network((torch.cat(parts) - mean) / std).argmax(1) == labels
        gains[kind] = 100 * float(right.float().mean()) - accuracy
    assert max(map(abs, gains.values())) < 6, gains
    assert abs(sum(gains.values()) / len(gains)) < 3, gains
