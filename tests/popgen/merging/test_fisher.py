"""Fisher-weighted averages against closed forms of softmax regression."""

from __future__ import annotations

import pytest
import torch
from random_networks import network
from torch import Tensor

from popgen.archs import ArchSpec, arch_config
from popgen.archs.config import with_classes
from popgen.errors import BadInput
from popgen.merging import MergeSettings, merge
from popgen.merging.fisher import EXACT, diagonal_fisher
from popgen.merging.given import Merging
from popgen.networks.forward import network_features, network_outputs

SPEC = ArchSpec.from_config("mlp-s")
INPUTS = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def fisher_of(spec: ArchSpec, flat: Tensor, inputs: Tensor) -> dict[str, Tensor]:
    found, _ = diagonal_fisher(Merging(spec, flat[None]), flat, inputs, torch.Generator().manual_seed(0))
    return spec.to_state(found)


def head_fisher(spec: ArchSpec, flat: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Of weight and bias of a softmax layer with inputs h: E h_j^2 p_y (1 - p_y), and E p_y (1 - p_y)."""
    hidden, p = network_features(spec, flat, inputs), network_outputs(spec, flat, inputs).softmax(1)
    spread = p * (1 - p)
    return spread.T @ hidden.square() / len(inputs), spread.mean(0)


def test_the_head_has_the_fisher_information_of_softmax_regression() -> None:
    flat = network(SPEC, 0)
    found, (weight, bias) = fisher_of(SPEC, flat, INPUTS), head_fisher(SPEC, flat, INPUTS)
    assert torch.allclose(found["3.weight"], weight, atol=1e-6) and torch.allclose(found["3.bias"], bias, atol=1e-6)


def test_many_classes_are_drawn() -> None:
    spec = ArchSpec.from_config(with_classes(arch_config("mlp-s"), EXACT + 4))
    flat, inputs = network(spec, 0), INPUTS.repeat(10, 1, 1, 1)
    found, (weight, _) = fisher_of(spec, flat, inputs)["3.weight"], head_fisher(spec, flat, inputs)
    assert abs(float(found.sum() / weight.sum()) - 1) < 0.1, "800 draws"


def test_each_parameter_is_weighted_by_its_information() -> None:
    experts, settings = torch.stack([network(SPEC, 0), 2 * network(SPEC, 1)]), MergeSettings(images=len(INPUTS))
    made = merge("fisher", SPEC, experts, inputs=INPUTS, settings=settings)
    weights = [head_fisher(SPEC, flat, INPUTS)[0].clamp_min(1e-6) for flat in experts]
    heads = [SPEC.to_state(flat)["3.weight"] for flat in experts]
    wanted = (weights[0] * heads[0] + weights[1] * heads[1]) / (weights[0] + weights[1])
    assert torch.allclose(SPEC.to_state(made.weights)["3.weight"], wanted, atol=1e-4)
    assert made.passes == 2 * 20 * 21


def test_equal_information_gives_the_average() -> None:
    """A shift of all logits by the same number changes no prediction."""
    state = SPEC.to_state(network(SPEC, 0))
    experts = torch.stack([SPEC.to_flat({**state, "3.bias": state["3.bias"] + shift}) for shift in (0.0, 1.0, 5.0)])
    made = merge("fisher", SPEC, experts, inputs=INPUTS)
    assert torch.allclose(made.weights, experts.mean(0), atol=1e-5)


def test_statistics_of_batch_norm_are_averaged() -> None:
    spec = ArchSpec.from_config("resnet-s")
    experts = torch.stack([network(spec, 0), network(spec, 1)])
    settings = MergeSettings(images=2, reestimate=False)
    merged = spec.to_state(merge("fisher", spec, experts, inputs=INPUTS, settings=settings).weights)
    average = spec.to_state(experts.mean(0))
    for t in spec.tensors:
        assert torch.allclose(merged[t.name], average[t.name]) == (t.kind in ("norm_mean", "norm_var")), t.name


def test_a_language_model_has_no_classes() -> None:
    spec = ArchSpec.from_config(with_classes(arch_config("mlp-s"), 10))
    other = ArchSpec(
        type(spec.config)(**{**vars(spec.config), "task": "next-token"}), spec.tensors, spec.counters, spec.head
    )
    for method in ("fisher", "adamerging"):
        with pytest.raises(BadInput, match=f"{method} cannot merge 'mlp-s', whose task is next-token"):
            merge(method, other, torch.zeros(2, spec.size), base=torch.zeros(spec.size), inputs=INPUTS)
