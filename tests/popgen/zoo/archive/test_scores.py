"""What a coded network loses: images that became right by chance do not pay for images that became wrong."""

from __future__ import annotations

import torch

from popgen.data import load_data
from popgen.networks.forward import network_outputs
from popgen.zoo import Zoo
from popgen.zoo.archive.scores import Scores

LIMIT = 1.0  # points; three of 300 images


def test_harm_is_not_paid_for_by_luck() -> None:
    zoo = Zoo.open("digits")
    record = zoo.record("cnn-s/digits/rotate:30/s0")
    spec, flat = zoo.spec("cnn-s"), zoo.matrix([record])[0]
    val = load_data(record.data).val
    inputs, scores = spec.config.inputs.prepare(val.inputs), Scores(zoo)
    right = network_outputs(spec, flat, inputs).argmax(1) == val.targets
    refused = 0
    for seed in range(60):
        noise = torch.randn(flat.shape, generator=torch.Generator().manual_seed(seed))
        after = flat + (0.02 + 0.001 * seed) * flat.std() * noise * 5
        now = network_outputs(spec, after, inputs).argmax(1) == val.targets
        harm = 100 * float((right & ~now).float().mean())
        lost = 100 * float(right.float().mean() - now.float().mean())
        found = scores.within(record, flat, after, LIMIT)
        assert (found is not None) == (harm <= LIMIT + 1e-6)
        assert found is None or abs(found - lost) < 1e-3
        assert scores.within(record, flat, after, LIMIT) == found  # what was kept says the same
        refused += lost <= LIMIT < harm
    assert refused > 2  # networks that lose little only because other images became right
