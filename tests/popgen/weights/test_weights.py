"""Scaling, tokens, networks as functions of a flat vector, and re-estimated batch-norm statistics."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from popgen.archs import ArchConfig, ArchSpec, arch_config, build
from popgen.archs.inputs import fit_images
from popgen.data import load_data
from popgen.networks.batchnorm import reestimate
from popgen.networks.forward import (
    _differentiable_state,
    behaviour_loss,
    network_features,
    network_outputs,
    task_score,
)
from popgen.weights import Scaling, TokenLayout
from popgen.weights.tokens import POSITION_FEATURES

ARCHS = ["mlp-s", "cnn-s", "cnn-m", "resnet-s"]


def make_norm() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))


def network(spec: ArchSpec, seed: int = 0) -> Tensor:
    """Random weights (p,) of a network in which no batch norm is the identity."""
    flat = spec.to_flat(build(spec.config, seed=seed).state_dict())
    moved = flat + 0.1 * torch.randn(spec.size, generator=torch.Generator().manual_seed(seed))
    state = spec.to_state(moved)
    for tensor in spec.tensors:
        if tensor.kind == "norm_var":
            state[tensor.name].copy_(state[tensor.name].abs() + 0.2)
    return moved


def module(spec: ArchSpec, flat: Tensor) -> nn.Module:
    net = build(spec.config, seed=9).to(flat.dtype).eval()
    net.load_state_dict(spec.to_state(flat))
    return net


# Scaling


@settings(max_examples=20, deadline=None)
@given(arch=st.sampled_from(ARCHS), seed=st.integers(0, 99), given_reference=st.booleans())
def test_scaling_is_undone(arch: str, seed: int, given_reference: bool) -> None:
    spec = ArchSpec.from_config(arch)
    weights = torch.stack([network(spec, seed + i) for i in range(3)])
    scaling = Scaling.fit(spec, weights, network(spec, seed + 9) if given_reference else None)
    assert torch.allclose(scaling.denormalise(scaling.normalise(weights)), weights, atol=1e-5, rtol=1e-4)


def test_scaling_by_hand() -> None:
    spec = ArchSpec.from_config("resnet-s")
    weights = torch.stack([network(spec, i) for i in range(4)])
    reference = network(spec, 7)
    scaling = Scaling.fit(spec, weights, reference)
    x = scaling.normalise(weights)
    start = 0
    for tensor in spec.tensors:
        part = slice(start, start + tensor.size)
        start += tensor.size
        values, centre = weights[:, part], reference[part]
        if tensor.kind == "norm_var":
            values, centre = values.log(), centre.log()
        rms = (values - centre).square().mean().sqrt()
        assert torch.allclose(scaling.scale[part], rms.expand(tensor.size))
        assert torch.allclose(x[:, part], (values - centre) / rms, atol=1e-4)
        assert float(x[:, part].square().mean()) == pytest.approx(1, abs=1e-3)
    assert torch.allclose(Scaling.fit(spec, weights).normalise(weights).mean(0), torch.zeros(spec.size), atol=1e-4)


@pytest.mark.parametrize("size", [1.0, 50.0, 1e6])
def test_variances_stay_positive_whatever_is_decoded(size: float) -> None:
    spec = ArchSpec.from_config("resnet-s")
    scaling = Scaling.fit(spec, torch.stack([network(spec, i) for i in range(3)]))
    weights = scaling.denormalise(size * torch.randn(5, spec.size, generator=torch.Generator().manual_seed(0)))
    variances = weights[:, scaling.is_log]
    assert variances.shape[1] == sum(t.size for t in spec.tensors if t.kind == "norm_var") > 0
    assert torch.isfinite(weights).all()
    assert (variances > 0).all()


def test_a_variance_of_zero_and_a_tensor_that_never_moves() -> None:
    spec = ArchSpec.from_config("resnet-s")
    weights = network(spec).repeat(3, 1)
    spec.to_state(weights[0])["bn1.running_var"].zero_()
    scaling = Scaling.fit(spec, weights)
    x = scaling.normalise(weights)
    assert torch.isfinite(x).all()
    assert torch.allclose(scaling.denormalise(x), weights, atol=1e-5, rtol=1e-3)
    assert (scaling.scale > 0).all()


# Tokens


@settings(max_examples=20, deadline=None)
@given(arch=st.sampled_from(ARCHS), width=st.integers(8, 300), n=st.integers(1, 3))
def test_tokens_are_undone_and_padded_with_zeros(arch: str, width: int, n: int) -> None:
    spec = ArchSpec.from_config(arch)
    layout = TokenLayout(spec, width)
    flat = torch.randn(n, spec.size) + 5
    tokens = layout.to_tokens(flat)
    assert tokens.shape == (n, len(layout), width)
    assert len(layout) == sum(math.ceil(t.size / width) for t in spec.tensors)
    assert torch.equal(layout.to_flat(tokens), flat)
    assert torch.equal(layout.to_flat(torch.where(layout.mask, tokens, 99.0)), flat)
    assert int(layout.mask.sum()) == spec.size
    assert torch.equal(tokens.ne(0).all(0), layout.mask)
    assert layout.positions.shape == (len(layout), POSITION_FEATURES)
    assert len(layout.positions.unique(dim=0)) == len(layout)  # no two tokens have the same position


def test_a_token_is_a_slice_of_one_tensor() -> None:
    spec = ArchSpec.from_config("cnn-s")
    layout = TokenLayout(spec, 50)
    tokens = layout.to_tokens(torch.arange(spec.size).float()[None])[0]
    assert tokens[0].tolist() == list(range(50))  # 0.weight has 72 values
    assert tokens[1].tolist() == [*range(50, 72), *[0] * 28]
    assert tokens[2].tolist() == [*range(72, 80), *[0] * 42]  # 0.bias
    assert layout.mask.sum(1)[:3].tolist() == [50, 22, 8]


# Networks as functions


@pytest.mark.parametrize("arch", ARCHS)
def test_outputs_and_accuracy_are_those_of_the_module(arch: str) -> None:
    spec, part = ArchSpec.from_config(arch), load_data("digits/rotate:30").val
    flat = network(spec)
    net = module(spec, flat)
    with torch.no_grad():
        expected = net(part.inputs)
    assert torch.allclose(network_outputs(spec, flat, part.inputs), expected, atol=1e-5)
    assert task_score(spec, flat, part) == float((expected.argmax(1) == part.targets).double().mean())


def test_accuracy_over_several_batches() -> None:
    spec, data = ArchSpec.from_config("mlp-s"), load_data("digits")
    part = type(data.train)(data.train.inputs.repeat(2, 1, 1, 1)[:1999], data.train.targets.repeat(2)[:1999])
    right = module(spec, network(spec))(part.inputs).argmax(1) == part.targets
    assert task_score(spec, network(spec), part) == int(right.sum()) / 1999


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
    assert torch.allclose(behaviour_loss(spec, weights, batches), torch.stack(expected).mean(), atol=1e-5)


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
    (gradient,) = torch.autograd.grad(behaviour_loss(spec, flat[None], [(x, y)]), flat)
    direction = torch.cat([torch.full((t.size,), float(t.kind == kind)) for t in spec.tensors]).double()
    direction *= torch.randn(spec.size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ahead, behind = (F.cross_entropy(network_outputs(spec, flat + s * 1e-6 * direction, x), y) for s in (1, -1))
    assert abs(float(gradient @ direction)) > 1e-4
    assert float(gradient @ direction) == pytest.approx(float((ahead - behind) / 2e-6), rel=1e-3)


# Batch norm


def test_reestimation_by_hand() -> None:
    spec, images = ArchSpec.from_config("resnet-s"), load_data("digits/invert").train.inputs
    flat = network(spec)
    before, after = spec.to_state(flat), spec.to_state(reestimate(spec, flat, images))
    stem = F.conv2d(images, before["conv1.weight"], padding=1)
    batches = [stem[:500], stem[500:]]
    mean = torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0)
    variance = torch.stack([b.transpose(0, 1).flatten(1).var(1) for b in batches]).mean(0)
    assert torch.allclose(after["bn1.running_mean"], mean, atol=1e-5)
    assert torch.allclose(after["bn1.running_var"], variance, rtol=1e-4)
    for tensor in spec.tensors:
        is_statistic = tensor.kind in ("norm_mean", "norm_var")
        assert torch.equal(before[tensor.name], after[tensor.name]) != is_statistic, tensor.name


def test_reestimation_repairs_and_leaves_the_rest_alone() -> None:
    spec, images = ArchSpec.from_config("resnet-s"), load_data("digits").train.inputs
    flat = reestimate(spec, network(spec), images)
    broken = flat.clone()
    for name, tensor in spec.to_state(broken).items():
        if name.endswith("running_var"):
            tensor.mul_(100)
    kept = broken.clone()
    assert torch.allclose(reestimate(spec, broken, images), flat, atol=1e-6)
    assert torch.equal(broken, kept)
    plain = ArchSpec.from_config("cnn-s")
    assert torch.equal(reestimate(plain, network(plain), images), network(plain))


def test_reestimation_with_one_image_left_over() -> None:
    spec = ArchSpec.from_config(ArchConfig("norm", f"{__name__}:make_norm"))
    assert torch.isfinite(reestimate(spec, network(spec), torch.rand(501, 1, 8, 8))).all()
