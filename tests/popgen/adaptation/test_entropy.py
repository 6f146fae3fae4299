"""Entropy minimisation on unlabelled images."""

from __future__ import annotations

import torch

from popgen.adaptation.entropy import minimise_entropy
from popgen.archs import ArchSpec
from popgen.configs.spec import Recipe
from popgen.data import load_data
from popgen.networks.batchnorm import reestimate
from popgen.networks.forward import network_outputs
from popgen.networks.train import train_network


def entropy(spec: ArchSpec, flat: torch.Tensor, images: torch.Tensor) -> float:
    return float(torch.special.entr(network_outputs(spec, flat, images).softmax(1)).sum(1).mean())


def test_predictions_become_more_certain_and_only_batch_norm_changes() -> None:
    spec, images = ArchSpec.from_config("resnet-s"), load_data("digits/invert").train.inputs[:400]
    state, _ = train_network(spec, load_data("digits"), Recipe(epochs=2), start=None, seed=0)
    flat = spec.to_flat(state)
    made = minimise_entropy(spec, flat, images, epochs=3)
    assert entropy(spec, made, images) < entropy(spec, reestimate(spec, flat, images), images)
    before, after = spec.to_state(flat), spec.to_state(made)
    for tensor in spec.tensors:
        assert torch.equal(before[tensor.name], after[tensor.name]) != tensor.kind.startswith("norm_"), tensor.name
    assert torch.equal(made, minimise_entropy(spec, flat, images, epochs=3)), "the seed decides the order"


def test_what_there_is_nothing_to_do_for() -> None:
    images = load_data("digits").train.inputs[:50]
    for name, epochs in (("mlp-s", 2), ("resnet-s", 0)):
        spec = ArchSpec.from_config(name)
        flat = torch.randn(spec.size)
        assert minimise_entropy(spec, flat, images, epochs) is flat
