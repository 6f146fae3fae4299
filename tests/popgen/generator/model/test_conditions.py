"""The data set encoder and its running statistics."""

from __future__ import annotations

import torch

from popgen.configs.generator import EncoderConfig
from popgen.generator.model.conditions import DataSetEncoder, Standardise


def test_the_embedding_depends_on_the_order_of_classes_and_not_of_images() -> None:
    torch.manual_seed(0)
    encoder = DataSetEncoder(EncoderConfig(width=32, heads=4, out=6), 12, 7).eval()
    features = torch.randn(2, 5, 4, 12)
    found = encoder(features)
    assert found.shape == (2, 6)
    shuffled = torch.stack([torch.stack([c[torch.randperm(4)] for c in row]) for row in features])
    assert torch.allclose(encoder(shuffled), found, atol=1e-5)
    assert not torch.allclose(encoder(features[:, [1, 0, 2, 3, 4]]), found, atol=1e-3)
    assert torch.allclose(encoder(features.flip(0)), found.flip(0), atol=1e-5)
    for classes, images in ((1, 1), (3, 7), (50, 2)):
        assert encoder(torch.randn(1, classes, images, 12)).shape == (1, 6)
    some = torch.tensor([4, 1])  # indices of two of the classes, in any order
    assert torch.allclose(encoder(features[:, some], some), encoder(features[:, some.flip(0)], some.flip(0)), atol=1e-5)
    assert not torch.allclose(encoder(features[:, some], some), encoder(features[:, some]), atol=1e-3)
    assert encoder.from_text(torch.randn(2, 7)).shape == (2, 6)


def test_running_statistics_are_updated_in_order() -> None:
    """Two workers with one batch each keep the same statistics as one worker with both."""
    torch.manual_seed(0)
    encoder = Standardise(3)
    batches = [torch.randn(8, 3) * k + k for k in (1.0, 2.0)]
    for batch in batches:
        assert torch.allclose(encoder(batch).mean(0), torch.zeros(3), atol=1e-5)
        assert torch.allclose(encoder(batch).var(0, unbiased=False), torch.ones(3), atol=1e-3)
    seen = torch.stack(encoder.take_seen()[::2])
    assert encoder.take_seen() == []
    encoder.update(seen)
    mean, variance = torch.zeros(3), torch.ones(3)
    for batch in batches:
        mean, variance = torch.lerp(mean, batch.mean(0), 0.02), torch.lerp(variance, batch.var(0), 0.02)
    x = torch.randn(4, 3)
    assert torch.allclose(encoder.eval()(x), (x - mean) / (variance + 1e-5).sqrt(), atol=1e-5)
    assert encoder.take_seen() == []
