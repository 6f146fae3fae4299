"""Entropy minimisation on unlabelled images."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch

from popgen.adaptation.entropy import EntropySteps, _Eta, minimise_entropy
from popgen.archs import ArchSpec
from popgen.configs.spec import Recipe
from popgen.data import load_data
from popgen.networks.batchnorm import reestimate
from popgen.networks.forward import network_outputs
from popgen.networks.train import train_network


def entropy(spec: ArchSpec, flat: torch.Tensor, images: torch.Tensor) -> float:
    return float(torch.special.entr(network_outputs(spec, flat, images).softmax(1)).sum(1).mean())


@pytest.mark.parametrize("kind", ["tent", "eta"])
def test_predictions_become_more_certain_and_only_batch_norm_changes(kind: Literal["tent", "eta"]) -> None:
    spec, images = ArchSpec.from_config("resnet-s"), load_data("digits/invert").train.inputs[:400]
    state, _ = train_network(spec, load_data("digits"), Recipe(epochs=8), start=None, seed=0)
    flat = spec.to_flat(state)
    steps = EntropySteps(kind, 3)
    made = minimise_entropy(spec, flat, images, steps)
    assert entropy(spec, made, images) < entropy(spec, reestimate(spec, flat, images), images)
    before, after = spec.to_state(flat), spec.to_state(made)
    for tensor in spec.tensors:
        assert torch.equal(before[tensor.name], after[tensor.name]) != tensor.kind.startswith("norm_"), tensor.name
    assert torch.equal(made, minimise_entropy(spec, flat, images, steps)), "the seed decides the order"


def test_what_there_is_nothing_to_do_for() -> None:
    images = load_data("digits").train.inputs[:50]
    for name, epochs in (("mlp-s", 2), ("resnet-s", 0)):
        spec = ArchSpec.from_config(name)
        flat = torch.randn(spec.size)
        assert minimise_entropy(spec, flat, images, EntropySteps("tent", epochs)) is flat


def test_eta_leaves_out_uncertain_images_and_those_like_the_ones_before() -> None:
    """Of four classes: H < 0.4 ln 4, and a cosine to the average prediction below 1.25 / 2."""
    certain = torch.tensor([[0.97, 0.01, 0.01, 0.01]])
    entropy = float(torch.special.entr(certain).sum())
    weighted = math.exp(0.4 * math.log(4) - entropy) * entropy
    loss = _Eta()
    assert float(loss(torch.cat([certain, torch.full((3, 4), 0.25)]))) == pytest.approx(weighted, rel=1e-5)
    assert float(loss(certain)) == 0, "it is like the average of those before, which is itself"
    assert float(loss(certain.flip(1))) == pytest.approx(weighted, rel=1e-5)
