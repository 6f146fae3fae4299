"""Tokens: the inverse, padding, and positions."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import ARCHS

from popgen.archs import ArchSpec
from popgen.weights import TokenLayout
from popgen.weights.tokens import POSITION_FEATURES


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
