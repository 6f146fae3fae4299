"""Networks as functions of a flat vector: outputs, features, losses, gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from random_networks import ARCHS, module, network
from torch.nn import functional as F

from popgen.archs import ArchSpec, arch_config
from popgen.archs.inputs import fit_images
from popgen.data import load_data
from popgen.networks.forward import (
    _differentiable_state,
    behaviour_loss,
    network_features,
    network_outputs,
    outputs_of_each,
    task_score,
)
from popgen.networks.together import run_together


@pytest.mark.parametrize("arch", ARCHS)
def test_outputs_and_accuracy_are_those_of_the_module(arch: str) -> None:
    spec, data = ArchSpec.from_config(arch), load_data("digits/rotate:30")
    part, flat = data.val, network(spec)
    net = module(spec, flat)
    with torch.no_grad():
        expected = net(part.inputs)
    assert torch.allclose(network_outputs(spec, flat, part.inputs), expected, atol=1e-5)
    assert task_score(spec, flat, data) == float((expected.argmax(1) == part.targets).double().mean())


def test_accuracy_over_several_batches() -> None:
    spec, data = ArchSpec.from_config("mlp-s"), load_data("digits")
    part = type(data.train)(data.train.inputs.repeat(2, 1, 1, 1)[:1999], data.train.targets.repeat(2)[:1999])
    right = module(spec, network(spec))(part.inputs).argmax(1) == part.targets
    assert task_score(spec, network(spec), replace(data, val=part)) == int(right.sum()) / 1999


def test_inputs_are_fitted_and_normalised() -> None:
    config = arch_config("resnet20")
    images = load_data("digits").val.inputs
    inputs = config.inputs.prepare(images)
    assert inputs.shape == (300, 3, 32, 32)
    back = inputs * torch.tensor(config.inputs.std).view(3, 1, 1) + torch.tensor(config.inputs.mean).view(3, 1, 1)
    assert torch.allclose(back, fit_images(images, (3, 32, 32)), atol=1e-5)
    assert torch.equal(arch_config("cnn-s").inputs.prepare(images), images)


@pytest.mark.parametrize("arch", ARCHS)
def test_features_enter_the_head(arch: str) -> None:
    spec, images = ArchSpec.from_config(arch), load_data("digits").val.inputs
    flat = network(spec)
    features, head = network_features(spec, flat, images), module(spec, flat).get_submodule(spec.head)
    assert features.shape == (300, head.in_features)
    assert torch.allclose(head(features), network_outputs(spec, flat, images), atol=1e-5)
    assert not features.requires_grad


def test_the_behaviour_loss_is_the_mean_cross_entropy() -> None:
    spec, part = ArchSpec.from_config("resnet-s"), load_data("digits").val
    weights = torch.stack([network(spec, i) for i in range(2)])
    batches = [(part.inputs[:50], part.targets[:50]), (part.inputs[50:90], part.targets[50:90])]
    expected = [
        F.cross_entropy(network_outputs(spec, flat, x), y) for flat, (x, y) in zip(weights, batches, strict=True)
    ]
    assert torch.allclose(behaviour_loss([spec] * 2, weights, batches), torch.stack(expected).mean(), atol=1e-5)


@pytest.mark.parametrize("arch", ARCHS)
def test_small_networks_run_together_as_they_run_alone(arch: str) -> None:
    spec, part = ArchSpec.from_config(arch), load_data("digits").val
    weights = torch.stack([network(spec, i) for i in range(3)]).double().requires_grad_()
    inputs = [spec.config.inputs.prepare(part.inputs[i : i + 20]).double() for i in range(3)]
    assert run_together([spec] * 3, inputs)
    found = outputs_of_each([spec] * 3, weights, inputs)
    alone = [network_outputs(spec, flat, x) for flat, x in zip(weights.detach(), inputs, strict=True)]
    assert torch.allclose(torch.stack(list(found)), torch.stack(alone), atol=1e-9)
    batches = [(x, part.targets[i : i + 20]) for i, x in enumerate(inputs)]
    (together,) = torch.autograd.grad(behaviour_loss([spec] * 3, weights, batches), weights)
    one_by_one = torch.stack(
        [behaviour_loss([spec], w[None], [batch]) for w, batch in zip(weights, batches, strict=True)]
    )
    (expected,) = torch.autograd.grad(one_by_one.mean(), weights)
    assert torch.allclose(together, expected, atol=1e-9)


def test_other_networks_run_one_by_one() -> None:
    small, other, large = (ArchSpec.from_config(name) for name in ("cnn-s", "mlp-s", "resnet20"))
    images = load_data("digits").val.inputs[:8]
    assert not run_together([small], [images])
    assert not run_together([small, other], [images] * 2)
    assert not run_together([small] * 2, [images, images[:4]])
    assert not run_together([large] * 2, [large.config.inputs.prepare(images)] * 2)


def test_folded_statistics_are_the_same_network() -> None:
    spec, images = ArchSpec.from_config("resnet-s"), load_data("digits").val.inputs
    flat = network(spec).double()
    net = module(spec, flat)
    net.load_state_dict(_differentiable_state(spec, flat))
    assert torch.allclose(net(images.double()), network_outputs(spec, flat, images.double()), atol=1e-9)


@pytest.mark.parametrize("kind", ["norm_mean", "norm_var", "norm_weight", "norm_bias", "conv", "linear"])
def test_gradients_agree_with_finite_differences(kind: str) -> None:
    spec, part = ArchSpec.from_config("resnet-s"), load_data("digits").val
    x, y = part.inputs[:40].double(), part.targets[:40]
    flat = network(spec).double().requires_grad_()
    (gradient,) = torch.autograd.grad(behaviour_loss([spec], flat[None], [(x, y)]), flat)
    direction = torch.cat([torch.full((t.size,), float(t.kind == kind)) for t in spec.tensors]).double()
    direction *= torch.randn(spec.size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ahead, behind = (F.cross_entropy(network_outputs(spec, flat + s * 1e-6 * direction, x), y) for s in (1, -1))
    assert abs(float(gradient @ direction)) > 1e-4
    assert float(gradient @ direction) == pytest.approx(float((ahead - behind) / 2e-6), rel=1e-3)
