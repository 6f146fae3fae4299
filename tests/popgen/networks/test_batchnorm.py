"""Re-estimated batch-norm statistics: a computation by hand, repair, an incomplete batch."""

from __future__ import annotations

import torch
from random_networks import network
from torch import nn
from torch.nn import functional as F

from popgen.archs import ArchConfig, ArchSpec
from popgen.data import load_data
from popgen.networks.batchnorm import mix_statistics, reestimate


def make_norm() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))


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


def test_statistics_in_part() -> None:
    spec, images = ArchSpec.from_config("resnet-s"), load_data("digits/invert").train.inputs
    flat = network(spec)
    whole = reestimate(spec, flat, images)
    assert torch.equal(mix_statistics(spec, flat, whole, 0.0), flat)
    assert torch.equal(mix_statistics(spec, flat, whole, 1.0), whole)
    quarter = mix_statistics(spec, flat, whole + 1, 0.25)
    mixed, old, new = (spec.to_state(one) for one in (quarter, flat, whole))
    for name, kind in ((tensor.name, tensor.kind) for tensor in spec.tensors):
        expected = 0.75 * old[name] + 0.25 * (new[name] + 1) if kind in ("norm_mean", "norm_var") else old[name]
        assert torch.allclose(mixed[name], expected, atol=1e-6), name


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
