"""Every codec reads back what it wrote: exactly, or within the bound of its steps; damaged bytes are refused."""

from __future__ import annotations

import json
import struct
import zlib

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from popgen.archs import ArchSpec
from popgen.errors import NotFound
from popgen.zoo.archive.codecs.layout import Layout, Part
from popgen.zoo.archive.codecs.low_rank import LowRank
from popgen.zoo.archive.codecs.planes import Planes
from popgen.zoo.archive.codecs.scaled import dequantise, quantise, read_scales, scale_bytes
from popgen.zoo.archive.codecs.sections import Sections, pack
from popgen.zoo.archive.codecs.table import CODECS, get_codec

LAYOUT = Layout((Part(4, 3), Part(1, 4), Part(3, 8), Part(1, 3, is_variance=True), Part(1, 1)))
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
MODEST = st.floats(-100, 100, width=32)


def networks(values: st.SearchStrategy[float]) -> st.SearchStrategy[np.ndarray]:
    return arrays.arrays(np.float32, LAYOUT.size, elements=values)


def sized(codec: str, layout: Layout = LAYOUT) -> tuple[np.ndarray, np.ndarray]:
    noise = np.random.default_rng(len(codec))
    base = np.abs(noise.normal(size=layout.size)).astype(np.float32)
    return base, (base + 0.01 * noise.normal(size=layout.size)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(flat=networks(FINITE), base=st.none() | networks(FINITE))
def test_lossless_gives_back_every_bit(flat: np.ndarray, base: np.ndarray | None) -> None:
    """Signed zeros, subnormals and the largest floats among them."""
    codec = Planes()
    again = codec.decode(LAYOUT, codec.encode(LAYOUT, flat, base), base)
    assert (again.view(np.uint32) == flat.view(np.uint32)).all()


@settings(max_examples=40, deadline=None)
@given(flat=networks(MODEST), base=networks(MODEST), bits=st.sampled_from([8, 6, 5, 4, 3]), with_base=st.booleans())
def test_integers_are_within_half_a_step(flat: np.ndarray, base: np.ndarray, bits: int, with_base: bool) -> None:
    """A step is the largest difference of a channel over the levels; scales are rounded up by at most one part in 128."""
    codec, used = CODECS[f"int{bits}"], base if with_base else None
    flat = np.where(LAYOUT.is_variance, np.abs(flat), flat)
    again = codec.decode(LAYOUT, codec.encode(LAYOUT, flat, used), used)
    delta, error, begin = flat - (0 if used is None else used), np.abs(again - flat), 0
    for part in LAYOUT.parts:
        rows = slice(begin, begin + part.size)
        peaks = np.abs(delta[rows]).reshape(part.rows, -1).max(1)
        levels = 127 if part.rows == 1 or bits == 8 else 2 ** (bits - 1) - 1
        most = peaks / levels / 2 if levels == 127 else peaks / 2  # coarse steps clip at no less than half of the peak
        slack = 1.02 * most + 1e-6 * (1 + np.abs(flat[rows]).max())
        assert (error[rows].reshape(part.rows, -1).max(1) <= slack).all()
        begin += part.size


@settings(max_examples=40, deadline=None)
@given(flat=networks(MODEST), name=st.sampled_from([name for name in CODECS if name != "lossless"]))
def test_a_network_that_is_its_base_comes_back_as_it(flat: np.ndarray, name: str) -> None:
    flat = np.where(LAYOUT.is_variance, np.abs(flat), flat)
    assert (CODECS[name].decode(LAYOUT, CODECS[name].encode(LAYOUT, flat, flat), flat) == flat).all()


def test_float16_is_numpys_and_clips_what_it_cannot_hold() -> None:
    flat = np.linspace(-70000, 70000, LAYOUT.size).astype(np.float32)
    flat = np.where(LAYOUT.is_variance, np.abs(flat), flat)
    again = CODECS["float16"].decode(LAYOUT, CODECS["float16"].encode(LAYOUT, flat, None), None)
    assert (again == np.clip(flat, -65504, 65504).astype(np.float16)).all()


def test_one_bit_is_the_sign_times_the_mean_of_the_channel() -> None:
    layout, codec = Layout((Part(2, 4),)), CODECS["1-bit"]
    delta = np.array([1, -1, 1, 1, 0.5, -0.25, -0.5, 0.75], dtype=np.float32)
    again = codec.decode(
        layout, codec.encode(layout, delta, np.zeros(8, dtype=np.float32)), np.zeros(8, dtype=np.float32)
    )
    assert again.tolist() == [1, -1, 1, 1, 0.5, -0.5, -0.5, 0.5]


def test_a_difference_of_low_rank_takes_few_components() -> None:
    layout, noise = Layout((Part(40, 30), Part(1, 40))), np.random.default_rng(0)
    base = noise.normal(size=layout.size).astype(np.float32)
    delta = np.concatenate([np.outer(noise.normal(size=40), noise.normal(size=30)).ravel(), np.zeros(40)])
    flat = (base + delta).astype(np.float32)
    packed = LowRank(95).encode(layout, flat, base)
    again = LowRank(95).decode(layout, packed, base)
    assert len(packed) < 250 < layout.size  # 40 + 30 values, 40 zeros and the lengths of blocks
    assert np.abs(again - flat).max() < 0.03 * np.abs(delta).max()


def test_a_higher_share_of_energy_is_nearer() -> None:
    layout = Layout((Part(32, 64), Part(1, 32)))
    base, flat = sized("rank", layout)
    errors = [
        np.linalg.norm(CODECS[n].decode(layout, CODECS[n].encode(layout, flat, base), base) - flat)
        for n in ("rank95", "rank80", "rank50")
    ]
    assert errors == sorted(errors) and errors[0] ** 2 < 0.06 * np.linalg.norm(flat - base) ** 2


def test_clipping_lessens_the_error_of_coarse_steps() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(size=500), [6]]).astype(np.float32)
    counts = np.array([501])
    clipped = dequantise(*quantise(values, counts, 3), counts)
    peak = dequantise(np.clip(np.rint(values / 2), -3, 3).astype(np.int8), np.array([2], dtype=np.float32), counts)
    assert np.linalg.norm(clipped - values) < 0.8 * np.linalg.norm(peak - values)


def test_scales_are_rounded_up_and_keep_tiny_ones() -> None:
    scales = np.array([1e-30, 1.0, 1 / 3, 3e38], dtype=np.float32)
    again = read_scales(scale_bytes(scales))
    assert (again >= scales).all() and (again <= scales * (1 + 1 / 127)).all()
    with pytest.raises(ValueError, match="not finite"):
        read_scales(b"\x80\x7f")


@pytest.mark.parametrize("name", CODECS)
def test_every_changed_or_missing_byte_is_found(name: str) -> None:
    base, flat = sized(name)
    packed = CODECS[name].encode(LAYOUT, flat, base)
    for at in range(len(packed)):
        altered = bytearray(packed)
        altered[at] ^= 1
        with pytest.raises(ValueError, match="checksum"):
            CODECS[name].decode(LAYOUT, bytes(altered), base)
    with pytest.raises(ValueError, match="checksum"):
        CODECS[name].decode(LAYOUT, packed[:-1], base)


@pytest.mark.parametrize("name", CODECS)
@settings(max_examples=30, deadline=None)
@given(body=st.binary(max_size=200))
def test_any_bytes_with_a_right_checksum_are_a_value_error(name: str, body: bytes) -> None:
    with pytest.raises(ValueError):
        CODECS[name].decode(LAYOUT, struct.pack("<I", zlib.crc32(body)) + body, sized(name)[0])


def block(content: bytes) -> bytes:
    body = struct.pack("<I", len(content)) + content
    return struct.pack("<I", zlib.crc32(body)) + body


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(2**26))
    assert len(bomb) < 2**14
    with pytest.raises(ValueError, match=r"claims 67108864 bytes, and the network's tensors need 44"):
        Sections(block(bomb)).take(44)
    unstated = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(2**20))
    with pytest.raises(ValueError, match="needs|claims"):
        Sections(block(unstated)).take(44)


def test_surplus_and_missing_blocks_are_refused() -> None:
    sections = Sections(pack([b"ab", b"cd"]))
    assert sections.take(2) == b"ab"
    with pytest.raises(ValueError, match="6 bytes too many"):
        sections.end()
    assert sections.take(2) == b"cd"
    sections.end()
    with pytest.raises(ValueError, match="too early"):
        sections.take(1)
    with pytest.raises(ValueError, match="zstd cannot read a block"):
        Sections(block(b"no frame")).take(8)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({}, "not a list"),
        ([[1, 2]], "has the entry"),
        ([[1, -2, 0]], "has the entry"),
        ([[True, 2, 0]], "has the entry"),
        ([[2**50, 0, 0]], "holds no values"),
        ([[0, 5, 0]], "holds no values"),
        ([[2**30, 2**30, 0]], "values"),
    ],
)
def test_layouts_that_are_none(content: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Layout.from_json(content)


def test_the_layout_of_an_architecture() -> None:
    spec = ArchSpec.from_config("resnet-s")
    layout = Layout.of(spec)
    assert layout.size == spec.size and sum(layout.is_variance) == sum(
        t.size for t in spec.tensors if t.kind == "norm_var"
    )
    assert Layout.from_json(json.loads(layout.to_json())) == layout


def test_an_unknown_codec() -> None:
    with pytest.raises(NotFound, match=r"no codec called 'int9'(?s:.*)int8"):
        get_codec("int9")
