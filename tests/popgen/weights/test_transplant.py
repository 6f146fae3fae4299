"""Transplants of weights from one architecture to another, and the names of architectures with options."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from popgen.archs import ArchSpec, arch_config, build
from popgen.errors import BadInput, NotFound
from popgen.networks.forward import network_outputs
from popgen.weights.transplant import plan_transplant


def net(arch: str, seed: int = 0) -> tuple[ArchSpec, Tensor]:
    """An architecture and random weights (p,) in which no batch norm is the identity."""
    spec = ArchSpec.from_config(arch)
    flat, rng = spec.to_flat(build(spec.config, seed=seed).state_dict()), torch.Generator().manual_seed(seed)
    parts = []
    for tensor, part in zip(spec.tensors, flat.split([t.size for t in spec.tensors]), strict=True):
        noise = 0.2 * torch.randn(part.shape, generator=rng)
        parts.append((part + noise).clamp_min(0.3) if tensor.kind == "norm_var" else part + noise)
    return spec, torch.cat(parts)


def images(spec: ArchSpec, n: int = 9) -> Tensor:
    return torch.rand(n, *spec.config.inputs.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("spread", [0.0, 0.5])
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("mlp-s", "mlp-s/hidden:96"),
        ("mlp-s", "mlp-s/hidden:100-100"),  # the second layer is the identity, and a second ReLU changes nothing
        ("cnn-s", "cnn-s/channels:12-24"),
        ("cnn-s", "cnn-s/channels:8-40"),
        ("cnn-s", "cnn-s/channels:16-32-32"),
        ("cnn-m", "cnn-m/channels:8-16-16-24"),
        ("resnet-s", "resnet-s/widths:16-32"),
        ("resnet-s", "resnet-s/blocks:3"),
        ("vgg-s", "vgg-s/widths:16-48-96/blocks:3"),
        ("mobilenetv2-s", "mobilenetv2-s/stem:32/widths:32-48-80/last:256"),
        ("mobilenetv2-s", "mobilenetv2-s/blocks:3"),
        ("repvgg-s", "repvgg-s/widths:32-48-96"),
    ],
)
def test_wider_and_deeper_networks_have_the_same_outputs(source: str, target: str, spread: float) -> None:
    (old, flat), new = net(source), ArchSpec.from_config(target)
    made = plan_transplant(old, new, spread=spread)(flat[None])[0]
    new.check(new.to_state(made), target)
    before, after = network_outputs(old, flat, images(old)), network_outputs(new, made, images(old))
    largest = float(before.abs().max().clamp_min(1))  # an inserted batch norm is the identity but for its epsilon
    assert torch.allclose(before, after, atol=1e-4 * largest), (before - after).abs().max()


@pytest.mark.parametrize("arch", ["mlp-s", "cnn-s", "cnn-m", "resnet-s", "shufflenetv2-s"])
def test_the_same_size_is_the_same_network(arch: str) -> None:
    spec, flat = net(arch)
    plan = plan_transplant(spec, replace(spec, config=replace(spec.config, name="other")))
    assert torch.equal(plan(flat[None])[0], flat)
    assert plan.changes.text() == "nothing changed"


@pytest.mark.parametrize("keep", ["even", "important"])
@pytest.mark.parametrize(
    ("source", "target", "text"),
    [
        ("mlp-s", "mlp-s/hidden:24", "narrowed 1"),
        ("cnn-s", "cnn-s/channels:4-8", "narrowed 0, 3"),
        ("cnn-s", "cnn-s/channels:24", "widened 0; dropped 3"),
        ("cnn-m", "cnn-m/channels:4-24-8-8", "narrowed 0, 5; widened 3; inserted 7 as identity"),
        ("resnet-s", "resnet-s/widths:4-12", "narrowed conv1, layer1.0, layer2.0"),
        ("resnet-s/blocks:2", "resnet-s/widths:12-24", "widened conv1, layer1.0, layer2.0; dropped layer1.1, layer2.1"),
    ],
)
def test_narrower_and_shallower_networks_are_valid(source: str, target: str, text: str, keep: str) -> None:
    (old, flat), new = net(source), ArchSpec.from_config(target)
    plan = plan_transplant(old, new, flat, keep=keep)  # type: ignore[arg-type]
    made = plan(flat[None])[0]
    new.check(new.to_state(made), target)
    assert torch.isfinite(network_outputs(new, made, images(new))).all()
    assert plan.changes.text() == text


def test_narrower_layers_keep_even_or_important_units() -> None:
    old, new = ArchSpec.from_config("mlp-s"), ArchSpec.from_config("mlp-s/hidden:16")
    _, flat = net("mlp-s")
    was, now = old.to_state(flat), new.to_state(plan_transplant(old, new)(flat[None])[0])
    assert torch.equal(now["1.weight"], was["1.weight"][::4])
    assert torch.equal(now["3.weight"], was["3.weight"][:, ::4])
    flat[: 64 * 48] = 0  # the first 48 units have no incoming weights
    kept = new.to_state(plan_transplant(old, new, flat, keep="important")(flat[None])[0])
    assert torch.equal(kept["1.weight"], old.to_state(flat)["1.weight"][48:])


def test_impossible_transplants_are_refused() -> None:
    old = ArchSpec.from_config("cnn-s")
    with pytest.raises(BadInput, match="keep='important' needs weights of 'cnn-s'\nthe importance of a unit is"):
        plan_transplant(old, old, keep="important")
    other = ArchSpec.from_config(replace(arch_config("cnn-s"), name="cnn-3", classes=3))
    with pytest.raises(
        BadInput, match="weights of 'cnn-s' cannot be made into weights of 'cnn-3'.*\ninputs and classes"
    ):
        plan_transplant(old, other)


# Names of architectures with other options


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cnn-s/channels:12-24", {"channels": [12, 24]}),
        ("resnet-s/widths:8-32/blocks:2", {"widths": [8, 32], "blocks": 2, "shortcut": "B"}),
        ("mlp-s/hidden:7", {"hidden": [7]}),
        ("resnet-s/shortcut:A", {"widths": [8, 16], "blocks": 1, "shortcut": "A"}),
    ],
)
def test_options_follow_the_name(name: str, options: dict[str, object]) -> None:
    config = arch_config(name)
    assert (config.name, config.options) == (name, options)
    assert ArchSpec.from_config(name).size > 0


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        (
            "cnn-s/chanels:3-4",
            NotFound,
            "no option of 'cnn-s' called 'chanels'\nnearest known: channels\nIts own are chan",
        ),
        ("cnn-s/channels", BadInput, "architecture 'cnn-s/channels': channels has no value"),
        ("cnn-s/channels:4-4/channels:8-8", BadInput, "gives channels twice"),
        ("cnn-s/channels:4-x", BadInput, "channels has 'x' in '4-x'\neach number is whole, from 1 to 4096; a list is"),
        ("cnn-s/channels:0-4", BadInput, "channels has '0' in '0-4'"),
        ("cnn-s/channels:" + "-".join(["2"] * 65), BadInput, "channels has 65 entries\nat most 64 are built"),
        ("resnet-s/shortcut:C", BadInput, "shortcut cannot be 'C'\nnearest known: "),
        ("cnn-x/channels:4-4", NotFound, "no architecture called 'cnn-x'"),
    ],
)
def test_options_that_do_not_fit(name: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        arch_config(name)
