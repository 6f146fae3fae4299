"""AdaMerging: coefficients that make predictions certain."""

from __future__ import annotations

import pytest
import torch
from random_networks import network
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.merging import MergeSettings, merge
from popgen.merging.adamerging import layer_coefficients
from popgen.merging.given import Merging
from popgen.networks.batchnorm import reestimate
from popgen.networks.forward import network_outputs

INPUTS = tuple(torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
STEPS = MergeSettings(steps=20, lr=0.05)


def given(name: str, settings: MergeSettings = STEPS) -> Merging:
    spec = ArchSpec.from_config(name)
    base = network(spec, 9)
    experts = base + 0.3 * torch.stack([network(spec, seed) for seed in (0, 1)])
    return Merging(spec, experts.abs() if spec.has_batch_norm else experts, base, INPUTS, settings=settings)


def entropy(spec: ArchSpec, flat: Tensor) -> float:
    predictions = network_outputs(spec, flat, torch.cat(INPUTS)).softmax(1)
    return float(torch.special.entr(predictions).sum(1).mean())


@pytest.mark.parametrize("name", ["mlp-s", "resnet-s"])
def test_the_steps_lower_the_entropy(name: str) -> None:
    one = given(name)
    spec, experts, base = one.spec, one.experts, one.base
    made = merge("adamerging", spec, experts, base=base, inputs=INPUTS, settings=STEPS)
    before = merge(
        "task_arithmetic", spec, experts, base=base, inputs=INPUTS, settings=MergeSettings(scale=0.3)
    ).weights
    assert entropy(spec, made.weights) < entropy(spec, before) - 0.01
    assert made.weights.equal(reestimate(spec, made.weights, torch.cat(INPUTS)))
    assert made.passes == 20 * 3 * 32 + (80 if spec.has_batch_norm else 0)


def test_there_is_a_coefficient_for_each_layer_and_expert_and_the_seed_fixes_it() -> None:
    one = given("mlp-s")
    found, again = (layer_coefficients(one)[0] for _ in range(2))
    assert found.shape == (2, 2) and found.equal(again) and len(found.unique()) == 4
    made = merge("adamerging", one.spec, one.experts, base=one.base, inputs=INPUTS, settings=STEPS)
    base, experts = one.spec.to_state(one.base), [one.spec.to_state(flat) for flat in one.experts]
    for t in one.spec.tensors:
        steps = [found[k, t.layer] * (experts[k][t.name] - base[t.name]) for k in range(2)]
        assert torch.allclose(one.spec.to_state(made.weights)[t.name], base[t.name] + steps[0] + steps[1], atol=1e-6)


def test_the_first_step_has_the_length_of_the_rate_from_the_published_start() -> None:
    found = layer_coefficients(given("mlp-s", MergeSettings(steps=1, lr=0.05)))[0]
    assert torch.allclose((found - 0.3).abs(), torch.full((2, 2), 0.05), atol=1e-4)


def test_certain_predictions_have_finite_gradients() -> None:
    one = given("mlp-s")
    made = merge("adamerging", one.spec, 50 * one.experts, base=one.base, inputs=INPUTS, settings=STEPS)
    assert bool(made.weights.isfinite().all())
