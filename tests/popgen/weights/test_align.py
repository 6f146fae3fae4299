"""Alignment undoes any permutation of a network, keeps its function, and refuses unsupported operations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models import mobilenet_v2, resnet18

from popgen.archs import ArchConfig, ArchSpec, arch_config, build
from popgen.errors import BadInput, PopgenError
from popgen.networks.forward import network_outputs
from popgen.weights import align as aligning
from popgen.weights.align import align, permuted
from popgen.weights.streams import Stream, find_streams, trace_streams
from popgen.zoo import Checkpoint, Zoo
from popgen.zoo.aligned import align_records, align_zoo

ARCHS = ("mlp-s/hidden:24-16", "cnn-m", "resnet-s", "resnet-s/shortcut:A", "resnet20", "resnet20/shortcut:B")
FAMILIES = ("vgg-s", "mobilenetv2-s", "shufflenetv2-s", "repvgg-s")


def network(spec: ArchSpec, seed: int) -> Tensor:
    """Weights (p,) in which no two units are equal: batch norm and biases are drawn at random, too."""
    flat = spec.to_flat(build(spec.config, seed=seed).state_dict())
    generator = torch.Generator().manual_seed(seed)
    for tensor, values in zip(spec.tensors, flat.split([t.size for t in spec.tensors]), strict=True):
        if tensor.kind.startswith("norm") or tensor.kind == "bias":
            values.copy_(0.5 + torch.rand(values.shape, generator=generator))
    return flat


def images(spec: ArchSpec, count: int = 16) -> Tensor:
    return torch.randn(count, *spec.config.inputs.shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("arch", (*ARCHS, *FAMILIES))
def test_a_permuted_network_is_brought_back_exactly(arch: str) -> None:
    spec = ArchSpec.from_config(arch)
    net = network(spec, seed=0)
    other = permuted(spec, net, seed=1)
    inputs = images(spec)
    assert not torch.equal(other, net)
    assert torch.allclose(network_outputs(spec, other, inputs), network_outputs(spec, net, inputs), atol=1e-5)
    for matched in (align(spec, other, net), align(spec, other, net, inputs)):
        assert torch.equal(matched.weights, net)
        assert matched.after == 0 < matched.before and matched.moved > 0.5


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**20), st.integers(0, 2**20))
def test_any_permutation_of_any_network(start: int, order: int) -> None:
    spec = ArchSpec.from_config("resnet-s/shortcut:A")
    net = network(spec, start)
    assert torch.equal(align(spec, permuted(spec, net, order), net).weights, net)


@pytest.mark.parametrize("arch", ["cnn-m", "resnet-s", "mobilenetv2-s/blocks:1", "shufflenetv2-s", "repvgg-s/blocks:1"])
@pytest.mark.parametrize("by_images", [False, True])
def test_independent_networks_keep_their_function(arch: str, by_images: bool) -> None:
    spec = ArchSpec.from_config(arch)
    one, other, inputs = network(spec, 0), network(spec, 1), images(spec)
    matched = align(spec, other, one, inputs if by_images else None)
    assert torch.allclose(
        network_outputs(spec, matched.weights, inputs), network_outputs(spec, other, inputs), atol=1e-4
    )
    assert by_images or matched.after < matched.before
    assert torch.equal(align(spec, one, one).weights, one)


def test_padded_shortcuts_tie_the_stages_streams() -> None:
    """Channel i of stage 1 is channel i + 8 of stage 2 and i + 24 of stage 3; later stages add streams."""
    streams = find_streams(ArchSpec.from_config("resnet20"))
    carried, of_two, of_three = (s for s in streams if "linear.weight" in {a.tensor for a in s.axes})
    indices = {name: next(a.indices[:, 0].tolist() for a in carried.axes if a.tensor == name) for name in
              ("layer1.0.bn2.bias", "layer2.0.bn2.bias", "layer3.0.bn2.bias")}  # fmt: skip
    assert list(indices.values()) == [list(range(16)), list(range(8, 24)), list(range(24, 40))]
    assert (carried.units, of_two.units, of_three.units) == (16, 16, 32)
    own = next(a.indices[:, 0].tolist() for a in of_two.axes if a.tensor == "layer2.0.bn2.bias")
    assert own == [*range(8), *range(24, 32)]


def test_units_behind_a_flattened_image_have_one_index_for_each_pixel() -> None:
    last = find_streams(ArchSpec.from_config("cnn-s"))[-1]
    head = next(a for a in last.axes if a.tensor == "6.weight")
    assert head.indices.shape == (16, 16) and head.indices[1].tolist() == list(range(16, 32))


def sizes(streams: tuple[Stream, ...]) -> list[int]:
    return [stream.units for stream in streams]


def test_streams_of_other_modules() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 2)
    )
    assert sizes(trace_streams(net, torch.rand(1, 3, 8, 8), "own")) == [6]
    assert sizes(trace_streams(resnet18(), torch.rand(1, 3, 32, 32), "resnet18"))[:4] == [64, 64, 64, 128]
    # MobileNetV2 has depthwise convolutions and ReLU6.
    assert 1280 in sizes(trace_streams(mobilenet_v2(), torch.rand(1, 3, 32, 32), "mobilenet"))


class Concatenated(nn.Module):
    """Two branches joined, as in Inception: their units are two streams, because different layers compute them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Conv2d(1, 3, 1), nn.Conv2d(1, 4, 1), nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.cat([self.a(x), self.b(x)], 1).mean((2, 3)))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.out(x[:, 0])
        return y @ y.transpose(1, 2)


class Positions(nn.Module):
    """Adds a parameter of its own to activations, which the tracing of units does not support."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.bias, self.out = nn.Linear(4, 4), nn.Parameter(torch.zeros(4)), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.first(x.flatten(1)) + self.bias)


def test_joined_branches() -> None:
    assert sizes(trace_streams(Concatenated(), torch.rand(1, 1, 4, 4), "joined")) == [3, 4]


@pytest.mark.parametrize(
    ("net", "shape", "why"),
    [
        (Attention(), (1, 4, 4), "bmm"),
        (Positions(), (1, 2, 2), "add with a tensor of its own of shape (4,)"),
        (nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 1, groups=2), nn.Flatten()), (4, 2, 2), "in 2 groups"),
        (nn.Sequential(nn.Conv2d(4, 8, 1), nn.LayerNorm([8, 2, 2]), nn.Flatten()), (4, 2, 2), "native_layer_norm"),
        (nn.Sequential(nn.Linear(3, 3)), (1, 2, 2), "it fails on an example of shape (1, 2, 2)"),
        (nn.Sequential(nn.ConvTranspose2d(1, 4, 2), nn.Flatten()), (1, 2, 2), "a transposed convolution"),
    ],
)  # fmt: skip
def test_unsupported_operations_are_refused(net: nn.Module, shape: tuple[int, ...], why: str) -> None:
    with pytest.raises(BadInput) as refused:
        trace_streams(net, torch.rand(1, *shape), "own")
    assert "networks of 'own' cannot be aligned, because" in refused.value.what and why in refused.value.what
    assert refused.value.todo == "Use them as they are."


def test_a_change_of_the_function_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams with one axis missing change the outputs, and the check against the original network finds it."""
    spec = ArchSpec.from_config("cnn-s")
    wrong = tuple(Stream(s.units, s.axes[:-1]) for s in find_streams(spec))
    monkeypatch.setattr(aligning, "find_streams", lambda _: wrong)
    with pytest.raises(PopgenError, match="permuting the units of a network of 'cnn-s' changed its outputs"):
        align(spec, network(spec, 1), network(spec, 0))


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    """Three networks: a, b with the units of a permuted, and c with the weights of b but recorded as trained from a."""
    spec, made = ArchSpec.from_config("cnn-s"), Zoo.create(tmp_path / "zoo", "three")
    net, config = network(spec, 0), arch_config("cnn-s")
    moved = permuted(spec, net, 1)
    rows = [("a", net, "one", None), ("b", moved, "two", None), ("c", moved, "three", "a")]
    made.add(
        (Checkpoint(id=i, arch="cnn-s", arch_config=config, data="digits", lineage=lineage, parent=parent), flat)
        for i, flat, lineage, parent in rows
    )
    made.finalize()
    return made


def test_a_zoo_is_aligned_except_for_fine_tunes_of_the_reference(zoo: Zoo, tmp_path: Path) -> None:
    same = align_records(zoo, zoo.records, zoo.record("a"))
    assert [a.moved > 0 for a in same] == [False, True, False]
    copy = align_zoo(zoo, tmp_path / "aligned")
    a, b, c = copy.matrix([copy.record(i) for i in "abc"])
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert "aligned with a" in copy.record("b").note and copy.record("c").note == ""
    assert copy.is_final and copy.verify() == ["b: has the same weights as a"]


def test_a_module_with_unsupported_layers_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\n\ndef make():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.LayerNorm(8), nn.Linear(8, 10))\n"
    )
    monkeypatch.setenv("POPGEN_TRUST", "own_net:make")
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = ArchSpec.from_config(ArchConfig("own", "own_net:make"))
    flat = torch.zeros(spec.size)
    with pytest.raises(BadInput, match="networks of 'own' cannot be aligned"):
        align(spec, flat, flat)
