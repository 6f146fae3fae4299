"""Normalised weights: the inverse, a computation by hand, variances and constant tensors."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import ARCHS, network

from popgen.archs import ArchSpec
from popgen.weights import Scaling


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
    assert {t.kind for t in scaling.moved(spec).tensors} == {"norm_mean", "norm_var"}


def test_a_tensor_that_no_network_moves_has_no_coordinates() -> None:
    spec = ArchSpec.from_config("resnet-s")
    reference = network(spec)
    weights = reference.repeat(3, 1) + 0.1 * torch.randn(3, spec.size, generator=torch.Generator().manual_seed(0))
    frozen = {"conv1.weight", "bn1.running_mean", "bn1.running_var"}
    for flat in weights:
        for name in frozen:
            spec.to_state(flat)[name].copy_(spec.to_state(reference)[name])
    scaling = Scaling.fit(spec, weights, reference)
    moved = scaling.moved(spec)
    assert {t.name for t in spec.tensors} - {t.name for t in moved.tensors} == {"conv1.weight"}, "statistics may move"
    assert [t for t in spec.tensors if t.name != "conv1.weight"] == list(moved.tensors), "layers keep their positions"
    x = scaling.normalise(weights).requires_grad_()
    assert x.shape == (3, moved.size)
    restored = scaling.denormalise(x)
    assert torch.allclose(restored, weights, atol=1e-5, rtol=1e-3)
    first = spec.to_state(scaling.denormalise(torch.randn(1, moved.size))[0])["conv1.weight"]
    assert torch.equal(first, spec.to_state(reference)["conv1.weight"])
    restored.sum().backward()
    assert x.grad is not None and x.grad.shape == x.shape
    other = network(spec, 1)[None]
    assert torch.allclose(scaling.of_all().denormalise(scaling.of_all().normalise(other)), other, atol=1e-4, rtol=1e-3)
    copy = pickle.loads(pickle.dumps(scaling))
    assert torch.equal(copy.denormalise(x.detach()), restored.detach())
