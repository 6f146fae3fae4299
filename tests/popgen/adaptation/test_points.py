"""The space of networks between base, robust network and what a condition adds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from random_networks import network

from popgen.adaptation.points import LINE, Point, PointDecoder
from popgen.archs import ArchSpec
from popgen.weights import Scaling

SPEC = ArchSpec.from_config("resnet-s")


@pytest.fixture(scope="module")
def decoder() -> PointDecoder:
    base, robust, generated = (network(SPEC, seed) for seed in range(3))
    scaling = Scaling.of(SPEC, robust, torch.full((SPEC.size,), 0.1))
    return PointDecoder(SPEC, scaling, base, robust, generated, network(SPEC, 3))


def test_the_corners_are_the_networks_themselves(decoder: PointDecoder) -> None:
    assert decoder.weights(Point()) is decoder.base
    assert decoder.weights(Point(1.0)) is decoder.robust
    assert decoder.weights(Point(0.0, 1.0)) is decoder.generated
    assert decoder.weights(Point(0.0, 0.0, 1.0)) is decoder.average


def test_between_them_weights_are_linear_and_variances_geometric(decoder: PointDecoder) -> None:
    assert decoder.robust is not None
    made = SPEC.to_state(decoder.weights(Point(0.25, 0.5, 0.125)))
    networks = decoder.base, decoder.robust, decoder.generated, decoder.average
    base, robust, generated, average = map(SPEC.to_state, networks)
    for tensor in SPEC.tensors:
        b, r, g, a = (state[tensor.name] for state in (base, robust, generated, average))
        expected = b + 0.25 * (r - b) + 0.5 * (g - b) + 0.125 * (a - b)
        if tensor.kind == "norm_var":
            expected = b * (r / b).pow(0.25) * (g / b).pow(0.5) * (a / b).pow(0.125)
        assert torch.allclose(made[tensor.name], expected, rtol=1e-3, atol=1e-4), tensor.name


def test_all_points_are_compared_and_the_base_is_the_first(decoder: PointDecoder) -> None:
    points = decoder.points()
    assert points[0] == Point()
    assert [point.along for point in points if point.is_on_line] == [0.0, *LINE]
    assert sum(bool(point.generated) for point in points) == sum(bool(point.average) for point in points) == 6
    assert len({point.text() for point in points}) == len(points)


def test_without_a_robust_network_there_is_no_line(decoder: PointDecoder) -> None:
    points = replace(decoder, robust=None).points()
    assert {point.along for point in points} == {0.0} and len(points) == 5
