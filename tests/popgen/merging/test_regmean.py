"""RegMean against least squares, and against the gradient of what it minimises."""

from __future__ import annotations

import pytest
import torch
from random_networks import network
from torch import Tensor, nn
from torch.nn import functional as F

from popgen.archs import ArchConfig, ArchSpec
from popgen.errors import BadInput
from popgen.merging import MergeSettings, merge
from popgen.merging.regmean import gram_matrices, layer_inputs

PLAIN = MergeSettings(shrink=1.0)


def images(count: int, seed: int) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_a_linear_layer_is_the_least_squares_solution() -> None:
    spec = ArchSpec.from_config("mlp-s")
    experts, inputs = torch.stack([network(spec, 0), network(spec, 1)]), [images(200, 0), images(200, 1)]
    merged = spec.to_state(merge("regmean", spec, experts, inputs=inputs, settings=PLAIN).weights)
    states = [spec.to_state(flat) for flat in experts]
    rows = torch.cat([one.flatten(1) for one in inputs]).double()
    outputs = [x.flatten(1).double() @ s["1.weight"].double().T for x, s in zip(inputs, states, strict=True)]
    solution = torch.linalg.lstsq(rows, torch.cat(outputs)).solution.T
    assert torch.allclose(merged["1.weight"].double(), solution, atol=1e-5)
    assert torch.allclose(merged["1.bias"], (states[0]["1.bias"] + states[1]["1.bias"]) / 2)
    hidden = torch.cat(
        [(x.flatten(1) @ s["1.weight"].T + s["1.bias"]).relu() for x, s in zip(inputs, states, strict=True)]
    ).double()
    outputs = [h @ s["3.weight"].double().T for h, s in zip(hidden.chunk(2), states, strict=True)]
    solution = torch.linalg.lstsq(hidden, torch.cat(outputs)).solution.T
    assert torch.allclose(merged["3.weight"].double(), solution, atol=1e-3), "inputs are those in each expert itself"


def test_at_a_convolution_the_squared_error_of_outputs_has_no_gradient() -> None:
    spec = ArchSpec.from_config("cnn-s")
    experts, inputs = torch.stack([network(spec, 0), network(spec, 1)]), [images(30, 0), 3 * images(30, 1)]
    merged = merge("regmean", spec, experts, inputs=inputs, settings=PLAIN).weights
    name = next(t.name for t in spec.tensors if t.kind == "conv")  # its inputs are the images

    def gradient(flat: Tensor) -> float:
        weight = spec.to_state(flat)[name].double().requires_grad_(True)
        loss = sum(
            (F.conv2d(x.double(), weight - spec.to_state(expert)[name].double(), padding=1)).square().sum()
            for x, expert in zip(inputs, experts, strict=True)
        )
        return float(torch.autograd.grad(loss, weight)[0].norm())

    assert gradient(merged) < 1e-4 * gradient(experts.mean(0))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding=1, stride=2, groups=2, bias=False),
        nn.Conv2d(4, 4, (3, 1), dilation=(2, 1), bias=False),
        nn.Linear(4, 3, bias=False),
    ],
)
@torch.no_grad()
def test_a_layer_is_its_weights_times_its_inputs(layer: nn.Module) -> None:
    inputs = torch.randn(5, 4, 9, 7) if isinstance(layer, nn.Conv2d) else torch.randn(5, 2, 4)
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    rows = layer_inputs(layer, inputs)
    weights = layer.weight.reshape(groups, layer.weight.shape[0] // groups, -1)
    outputs = torch.cat(list(rows @ weights.mT), 1)  # (rows, out)
    wanted = layer(inputs)
    wanted = wanted.permute(0, 2, 3, 1) if isinstance(layer, nn.Conv2d) else wanted
    assert torch.allclose(outputs, wanted.flatten(0, -2), atol=1e-5)


def test_where_inputs_are_always_zero_the_average_stays() -> None:
    spec = ArchSpec.from_config("mlp-s")
    experts, inputs = torch.stack([network(spec, 0), network(spec, 1)]), images(100, 0)
    inputs[:, :, 0] = 0  # the upper row of pixels
    merged = spec.to_state(merge("regmean", spec, experts, inputs=inputs, settings=PLAIN).weights)["1.weight"]
    average = spec.to_state(experts.mean(0))["1.weight"]
    assert torch.allclose(merged[:, :8], average[:, :8])


def test_equal_experts_stay_and_other_tensors_are_averaged() -> None:
    spec = ArchSpec.from_config("resnet-s")
    same = network(spec, 0).expand(2, -1)
    settings = MergeSettings(reestimate=False)
    made = merge("regmean", spec, same, inputs=[images(20, 0), images(30, 1)], settings=settings)
    assert torch.allclose(made.weights, same[0], atol=1e-5) and made.passes == 50
    experts, own = torch.stack([network(spec, 0), network(spec, 1)]), [images(20, 0), 1 + images(20, 1)]
    merged = spec.to_state(merge("regmean", spec, experts, inputs=own, settings=settings).weights)
    average = spec.to_state(experts.mean(0))
    for t in spec.tensors:
        assert torch.allclose(merged[t.name], average[t.name]) == (t.kind not in ("conv", "linear")), t.name


def test_shrinking_scales_what_is_off_the_diagonal() -> None:
    spec = ArchSpec.from_config("mlp-s")
    whole, half = (gram_matrices(spec, network(spec, 0), images(50, 0), shrink)["1"][0] for shrink in (1.0, 0.5))
    diagonal = torch.eye(len(whole), dtype=torch.bool)
    assert whole[diagonal].equal(half[diagonal]) and torch.allclose(half[~diagonal], whole[~diagonal] / 2)


def test_a_network_without_layers_to_fit_is_refused() -> None:
    spec = ArchSpec.from_config(ArchConfig("norm", "torch.nn:BatchNorm2d", {"num_features": 1}))
    with pytest.raises(BadInput, match="regmean cannot merge 'norm'"):
        merge("regmean", spec, torch.ones(2, spec.size), inputs=images(4, 0))
