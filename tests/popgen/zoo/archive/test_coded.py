"""Coded shards: what is written is read, and a malformed file is an error that says what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from popgen.errors import BrokenFile
from popgen.zoo.archive.codecs.layout import Layout, Part
from popgen.zoo.archive.codecs.table import CODECS
from popgen.zoo.archive.coded import CodedNetwork, open_coded, overhead, write_coded
from popgen.zoo.shards import read_rows

LAYOUT = Layout((Part(8, 8), Part(1, 8)))
Tensors, Texts = dict[str, torch.Tensor], dict[str, str]


def flat(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=LAYOUT.size).astype(np.float32)


def coded(codec: str, number: int, base: int = -1) -> CodedNetwork:
    return CodedNetwork(codec, base, CODECS[codec].encode(LAYOUT, flat(number), None if base < 0 else flat(0)))


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A base, and three networks of which two are differences from it."""
    file = tmp_path / "shard.safetensors"
    networks = [coded("lossless", 1, 0), coded("int8", 2), coded("lossless", 3, 0)]
    write_coded(file, LAYOUT, {"start": coded("lossless", 0)}, networks)
    return file


def test_rows_are_read_in_any_order(shard: Path) -> None:
    rows = read_rows(shard, [3, 1, 3, 0], LAYOUT.size)
    assert torch.equal(rows, torch.from_numpy(np.stack([flat(3), flat(1), flat(3), flat(0)])))
    with open_coded(shard) as opened:
        assert len(opened) == 4 and opened.names == ["start"]
        assert torch.equal(opened.base("start", LAYOUT.size), torch.from_numpy(flat(0)))  # type: ignore[arg-type]
        assert opened.base("mean", LAYOUT.size) is None


def test_the_overhead_is_a_bound(tmp_path: Path) -> None:
    for count in (1, 7, 300):
        networks = [coded("int8", i % 5) for i in range(count)]
        size = write_coded(tmp_path / "x.safetensors", LAYOUT, {"start": coded("int4", 0)}, networks)
        payload = len(coded("int4", 0).packed) + sum(len(n.packed) for n in networks)
        assert size - payload <= overhead(LAYOUT, {"start": coded("int4", 0)}, count) <= size - payload + 600


def test_a_truncated_shard(shard: Path) -> None:
    for cut in (1, 100):
        shard.write_bytes(shard.read_bytes()[:-cut])
        with pytest.raises(BrokenFile, match=r"cannot be read(?s:.*)Restore the file, or (make|build)"):
            read_rows(shard, [1], LAYOUT.size)


def test_an_altered_byte_is_found_on_reading(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    content[-20] ^= 1
    shard.write_bytes(content)
    with pytest.raises(BrokenFile, match=r"network \d: the checksum of a coded network is wrong"):
        read_rows(shard, [0, 1, 2, 3], LAYOUT.size)


def test_networks_of_another_size(shard: Path) -> None:
    with pytest.raises(BrokenFile, match=r"4 networks of 72 values, needed: more than 1 of 10"):
        read_rows(shard, [1], 10)
    with pytest.raises(BrokenFile, match=r"needed: more than 4 of 72"):
        read_rows(shard, [4], LAYOUT.size)


def set_to(name: str, value: torch.Tensor) -> Callable[[Tensors, Texts], object]:
    return lambda tensors, _: tensors.update({name: value})


def say(name: str, value: object) -> Callable[[Tensors, Texts], object]:
    return lambda _, texts: texts.update({name: value if isinstance(value, str) else json.dumps(value)})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (say("format", "popgen coded shard 9"), "format is 'popgen coded shard 9'(?s:.*)Update popgen"),
        (say("layout", "nonsense"), "Expecting value"),
        (say("layout", [[1, 1, 1, 1]]), "its layout has the entry"),
        (say("layout", "[" * 100_000), "nested too deeply"),
        (say("codecs", ["lossless", "magic"]), "codec 'magic' is not known; update popgen"),
        (say("codecs", ["lossless"]), "a codec that is not in its list"),
        (say("names", {}), "names are no list"),
        (say("names", ["a", "b", "c", "d", "e"]), "different lengths"),
        (set_to("ends", torch.tensor([1, 2])), "different lengths"),
        (set_to("ends", torch.tensor([9, 5, 7, 8])), "do not fit"),
        (set_to("ends", torch.tensor([1, 2, 3, 2**40])), "do not fit"),
        (set_to("ends", torch.ones(4)), "no list of whole numbers"),
        (set_to("bases", torch.tensor([-1, 1, -1, 0])), "a base that is not there"),
        (set_to("bases", torch.tensor([0, 0, -1, 0])), "a base that is not there"),
        (set_to("bases", torch.tensor([-1, -7, -1, 0])), "a base that is not there"),
        (set_to("payload", torch.zeros(4)), "no list of bytes"),
        (lambda tensors, _: tensors.pop("payload"), "payload"),
        (lambda _, texts: texts.pop("layout"), "layout"),
        (set_to("bases", torch.tensor([-1, -1, -1, 0])), "network 1: a lossless network has the mode"),
    ],
)
def test_malformed_shards(shard: Path, change: Callable[[Tensors, Texts], object], why: str) -> None:
    with safe_open(shard, framework="pt") as file:
        texts = dict(file.metadata())
    tensors = load_file(shard)
    change(tensors, texts)
    save_file(tensors, shard, texts)
    with pytest.raises(BrokenFile, match=rf"cannot be read\n(?s:.*){why}"):
        read_rows(shard, [0, 1, 2, 3], LAYOUT.size)
