"""Images are fitted to the shape that a network takes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from popgen.archs.inputs import ImageInputs, fit_images
from popgen.errors import BadInput


@settings(max_examples=20, deadline=None)
@given(channels=st.sampled_from([1, 3]), size=st.integers(2, 20), to=st.integers(2, 20), out=st.sampled_from([1, 3]))
def test_fitting_gives_the_shape_and_keeps_flat_images(channels: int, size: int, to: int, out: int) -> None:
    images = torch.rand(2, 1, 1, 1).expand(2, channels, size, size)
    fitted = fit_images(images, (out, to, to))
    assert fitted.shape == (2, out, to, to)
    assert torch.allclose(fitted, images[:, :1, :1, :1].expand_as(fitted), atol=1e-5)


def test_fitting_rules() -> None:
    images = torch.rand(4, 3, 8, 8)
    assert torch.equal(fit_images(images, (3, 8, 8)), images)
    assert torch.equal(fit_images(images, (1, 8, 8)), images.mean(1, keepdim=True))
    assert torch.equal(fit_images(images[:, :1], (3, 8, 8)), images[:, :1].repeat(1, 3, 1, 1))
    stripes = (torch.arange(64) % 2).float().expand(1, 1, 64, 64)
    assert (
        float((fit_images(stripes, (1, 8, 8)) - 0.5).abs().max()) < 0.1
    )  # stripes become grey because the resizing is antialiased
    assert fit_images(stripes, (1, 100, 30)).shape == (1, 1, 100, 30)


def test_texts_are_no_images() -> None:
    with pytest.raises(BadInput, match=r"a network of images cannot read examples of the shape \(25,\)\nsuch examples"):
        ImageInputs().prepare(torch.zeros(3, 25, dtype=torch.uint8))
