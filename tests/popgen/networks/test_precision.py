"""Processors with bfloat16, and the comparison of a network's passes in both precisions."""

from __future__ import annotations

import math

import pytest
import torch
from random_networks import network

from popgen.archs import ArchSpec
from popgen.networks.passes import Passes
from popgen.networks.precision import BFLOAT16, FLOAT32, Compared, compare_precisions, has_bfloat16, multiplies_bfloat16


def images(spec: ArchSpec) -> torch.Tensor:
    drawn = torch.rand(40, *spec.config.inputs.shape, generator=torch.Generator().manual_seed(0))
    return spec.config.inputs.prepare(drawn)


def test_instructions_of_processors() -> None:
    amx = {"avx512_f": True, "avx512_bf16": False, "amx_tile": True, "amx_bf16": True}
    older, arm = {"avx512_f": True, "avx512_vnni": True, "avx512_bf16": False}, {"neon": True, "bf16": True}
    assert [multiplies_bfloat16(one) for one in (amx, older, arm, {})] == [True, False, True, False]
    assert has_bfloat16("cuda") == (torch.cuda.is_available() and torch.cuda.get_device_properties(0).major >= 8)


def test_the_choice_needs_speed_and_agreement() -> None:
    assert Compared(1.2, 1.0, 0.03).faster == BFLOAT16
    for other in (Compared(1.19, 1.0, 0.03), Compared(2.0, 1.0, 0.031), Compared(2.0, 1.0, math.nan)):
        assert other.faster == FLOAT32 and other.text().count("bfloat16") == 1


@pytest.mark.parametrize("name", ["resnet-s", "cnn-s"])
def test_logits_agree_as_they_do_by_hand(name: str) -> None:
    spec = ArchSpec.from_config(name)
    flat, inputs = network(spec), images(spec)
    found = compare_precisions(spec, flat, inputs)
    exact, rounded = (Passes(spec, inputs, bfloat16=half).outputs(flat).double() for half in (False, True))
    by_hand = (rounded - exact).square().mean().sqrt() / exact.var(-1, correction=0).mean().sqrt()
    assert found.difference == pytest.approx(float(by_hand), rel=1e-4) and 1e-4 < found.difference < 0.03
    assert 0 < found.float32 < 60 and 0 < found.bfloat16 < 60


def test_a_network_without_contrast_keeps_float32() -> None:
    """Its logits are the same for all classes, so that there is no scale for their difference."""
    spec = ArchSpec.from_config("mlp-s")
    assert math.isnan(compare_precisions(spec, torch.zeros(spec.size), images(spec)).difference)
