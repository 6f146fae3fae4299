"""Architectures: the built-in networks, their tensors as data, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from popgen.archs import ARCHITECTURES, ArchConfig, ArchSpec, arch_config, build, with_classes
from popgen.archs.spec import KINDS
from popgen.errors import BadInput, NotFound, PopgenError

# Parameters of each network. He et al. give 0.27M, 0.46M, 0.66M and 0.85M for the ResNets in table 6.
TRAINABLE = {
    "mlp-s": 64 * 64 + 64 + 64 * 10 + 10,
    "cnn-s": 8 * 9 + 8 + 16 * 8 * 9 + 16 + 16 * 16 * 10 + 10,
    "cnn-m": 8 * 9 + 8 + 16 * 8 * 9 + 16 + 16 * 16 * 9 + 16 + 16 * 16 * 10 + 10,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
}
NAMES = sorted(set(ARCHITECTURES) - {"resnet110"})


class Odd(nn.Module):
    """A module with every kind of tensor, among them a scalar parameter of its own and a counter."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.words = nn.Embedding(5, 4)
        self.conv = nn.Conv1d(4, 6, 3)
        self.norm = nn.BatchNorm1d(6)
        self.layer_norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer_norm(self.norm(self.conv(self.words(x).transpose(1, 2))).mean(2))) * self.scale


def make_odd(classes: int = 3) -> nn.Module:
    return Odd(classes)


def make_number() -> int:
    return 7


ODD = ArchConfig("odd", f"{__name__}:make_odd", {"classes": 3}, classes=3)


def random_state(spec: ArchSpec, seed: int) -> dict[str, Tensor]:
    return spec.to_state(torch.randn(spec.size, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize(("name", "count"), TRAINABLE.items())
def test_built_in_networks_have_their_published_sizes(name: str, count: int) -> None:
    assert sum(p.numel() for p in build(name).parameters()) == count


@pytest.mark.parametrize("name", NAMES)
def test_a_network_gives_one_output_per_class(name: str) -> None:
    config = with_classes(arch_config(name), 7)
    net = build(config, seed=0).eval()
    assert net(torch.rand(2, *config.inputs.shape)).shape == (2, 7)


def test_a_resnet_starts_from_its_shortcuts() -> None:
    """With residual branches that return zero, a ResNet with shortcuts A only subsamples and pads the stem's output."""
    net = build("resnet20", seed=0).eval()
    for name, module in net.named_modules():
        if name.endswith("bn2"):
            nn.init.zeros_(module.weight)
    x = torch.rand(2, 3, 32, 32)
    stem = net.bn1(net.conv1(x)).relu()
    by_hand = torch.zeros(2, 64, 8, 8)
    by_hand[:, 24:40] = stem[:, :, ::4, ::4]  # padded by 8 and then 16 channels on either side
    assert torch.allclose(net(x), net.linear(by_hand.mean(dim=(2, 3))), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(name=st.sampled_from(NAMES), seed=st.integers(0, 2**16))
def test_flat_and_state_are_inverse(name: str, seed: int) -> None:
    spec = ArchSpec.from_config(name)
    flat = torch.randn(spec.size, generator=torch.Generator().manual_seed(seed))
    state = spec.to_state(flat)
    assert torch.equal(spec.to_flat(state), flat)
    assert {t.name: t.shape for t in spec.tensors} == {
        n: tuple(state[n].shape) for n in state if n not in spec.counters
    }


@pytest.mark.parametrize("config", [*NAMES, ODD], ids=str)
def test_a_state_loads_strictly_into_a_fresh_module(config: str | ArchConfig) -> None:
    spec, net = ArchSpec.from_config(config), build(config, seed=3)
    state = random_state(spec, 0)
    assert list(net.load_state_dict(state, strict=True)) == [[], []]
    assert torch.equal(spec.to_flat(net.state_dict()), spec.to_flat(state))
    assert all(int(state[name]) == 0 for name in spec.counters)
    assert bool(spec.counters) == spec.has_batch_norm


def test_seeds_make_networks_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (
        ArchSpec.from_config("mlp-s").to_flat(build("mlp-s", seed=s).state_dict()) for s in (1, 1, 2)
    )
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_fingerprints_are_of_names_and_shapes() -> None:
    prints = {name: ArchSpec.from_config(name).fingerprint for name in NAMES}
    assert len(set(prints.values())) == len(prints)
    renamed = arch_config("cnn-s", name="mine", mean=(0.5,))
    assert ArchSpec.from_config(renamed).fingerprint == prints["cnn-s"]
    assert ArchSpec.from_config(with_classes(renamed, 9)).fingerprint != prints["cnn-s"]
    assert all(len(p) == 16 and int(p, 16) >= 0 for p in prints.values())


def test_kinds_layers_and_fans() -> None:
    spec = ArchSpec.from_config(ODD)
    kinds = {t.name: t.kind for t in spec.tensors}
    assert kinds == {
        "scale": "other",
        "words.weight": "embedding",
        "conv.weight": "conv",
        "conv.bias": "bias",
        "norm.weight": "norm_weight",
        "norm.bias": "norm_bias",
        "norm.running_mean": "norm_mean",
        "norm.running_var": "norm_var",
        "layer_norm.weight": "norm_weight",
        "layer_norm.bias": "norm_bias",
        "head.weight": "linear",
        "head.bias": "bias",
    }
    assert set(kinds.values()) == set(KINDS)
    assert spec.counters == ("norm.num_batches_tracked",)
    assert spec.head == "head"
    by_name = {t.name: t for t in spec.tensors}
    assert (by_name["conv.weight"].fan_in, by_name["conv.weight"].fan_out) == (12, 18)
    assert (by_name["head.weight"].fan_in, by_name["head.weight"].fan_out) == (6, 3)
    assert (by_name["head.bias"].fan_in, by_name["head.bias"].fan_out) == (1, 3)
    assert [t.layer for t in spec.tensors] == sorted(t.layer for t in spec.tensors)
    assert (spec.tensors[0].depth, by_name["head.bias"].depth) == (0.0, 1.0)
    assert by_name["head.weight"].layer == by_name["head.bias"].layer == 5


@pytest.mark.parametrize(
    ("name", "head"), [("mlp-s", "3"), ("cnn-s", "6"), ("resnet-s", "linear"), ("resnet20", "linear")]
)
def test_the_head_is_the_last_linear_layer(name: str, head: str) -> None:
    assert ArchSpec.from_config(name).head == head


def test_a_module_without_linear_layers_has_no_head() -> None:
    assert ArchSpec.from_module(nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten())).head == ""


def test_differences_name_every_tensor() -> None:
    spec = ArchSpec.from_config("resnet-s")
    shapes = {t.name: t.shape for t in spec.tensors}
    assert spec.differences(shapes) == []
    assert spec.differences({**shapes, "bn1.num_batches_tracked": ()}) == []
    changed = {**shapes, "linear.bias": (5,), "extra": (1, 2)}
    del changed["conv1.weight"]
    assert spec.differences(changed) == [
        "linear.bias is (5,), not (10,)",
        "conv1.weight (8, 1, 3, 3) is missing",
        "extra (1, 2) is not in it",
    ]


def test_check_refuses_what_does_not_fit() -> None:
    spec = ArchSpec.from_config("cnn-s")
    good = random_state(spec, 0)
    spec.check(good, "x.pt")
    with pytest.raises(BadInput) as caught:
        spec.check({k: v for k, v in good.items() if k != "0.bias"}, "x.pt")
    assert caught.value.what == "x.pt does not fit the architecture 'cnn-s': 1 tensors differ"
    assert caught.value.why == "0.bias (8,) is missing"
    with pytest.raises(BadInput, match=r"6.weight is \(10, 64\), not \(10, 256\)"):
        spec.check({**good, "6.weight": torch.zeros(10, 64)}, "x.pt")
    with pytest.raises(BadInput) as caught:
        spec.check(build("mlp-s").state_dict(), "x.pt")
    assert caught.value.what.endswith("8 tensors differ")
    assert caught.value.why.endswith(" ...")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_check_refuses_what_is_not_finite(value: float) -> None:
    spec = ArchSpec.from_config("cnn-s")
    state = random_state(spec, 0)
    state["3.weight"][0, 0, 0, 0] = value
    with pytest.raises(BadInput) as caught:
        spec.check(state, "x.pt")
    assert (caught.value.what, caught.value.why) == ("x.pt holds NaN or infinity", "in 3.weight")


def test_a_function_of_the_users_is_an_architecture() -> None:
    config = arch_config(f"{__name__}:make_odd")
    assert isinstance(build(config), Odd)
    assert config.name == config.builder == f"{__name__}:make_odd"
    assert build(replace(config, options={"classes": 5})).head.out_features == 5


@pytest.mark.parametrize(
    ("name", "error", "what", "why"),
    [
        (
            "resnet18",
            NotFound,
            "there is no architecture called 'resnet18'",
            "known elsewhere: timm:resnet18, torchvision",
        ),
        ("resnet18.a1_in1k/in_chans:1", NotFound, "no architecture called", "known elsewhere: timm:resnet18, "),
        ("cnn-x", NotFound, "there is no architecture called 'cnn-x'", "nearest known: cnn-s, cnn-m"),
        ("resnet21", NotFound, "there is no architecture called 'resnet21'", "nearest known: resnet32, resnet20"),
        ("no_such_module:net", NotFound, "module 'no_such_module'", "ModuleNotFoundError"),
        (f"{__name__}:nothing", NotFound, f"'{__name__}' has no 'nothing'", "it was asked for as"),
        (f"{__name__}:make_number", BadInput, "returned int", "a callable that returns a torch.nn.Module"),
        ("math:sqrt", BadInput, "does not take these options", "exactly one argument"),
    ],
)
def test_names_that_are_no_architecture(name: str, error: type[PopgenError], what: str, why: str) -> None:
    with pytest.raises(error) as caught:
        build(name)
    assert what in caught.value.what
    assert why in caught.value.why
    assert caught.value.todo


def test_bad_options_and_builders() -> None:
    with pytest.raises(BadInput, match="the builder 'cnn' does not take these options") as caught:
        build(replace(arch_config("cnn-s"), options={"width": 3}))
    assert "width" in caught.value.why
    with pytest.raises(NotFound, match="no network builder called 'cnnn'\nnearest known: cnn"):
        build(replace(arch_config("cnn-s"), builder="cnnn"))


@pytest.mark.parametrize(
    "change",
    [{"classes": -1}, {"options": {"hidden": [-3]}}, {"options": {"hidden": ["a"]}}, {"input_shape": [1, -8, 8]}],
)
def test_sizes_below_zero_are_refused(change: dict[str, object]) -> None:
    config = ArchConfig.from_json({**arch_config("mlp-s").to_json(), **change})
    with pytest.raises(BadInput, match="the builder 'mlp' does not take these options"):
        build(config)


@pytest.mark.parametrize("change", [{"options": {"hidden": [2**24]}}, {"input_shape": [1, 2**17, 2**17]}])
def test_networks_that_are_too_large_take_no_memory(change: dict[str, object]) -> None:
    config = ArchConfig.from_json({**arch_config("mlp-s").to_json(), **change})
    with pytest.raises(BadInput, match=r"it would have [\d,]+ parameters, and at most 268,435,456 are built"):
        build(config)


def test_configurations_of_other_types_are_refused() -> None:
    content = arch_config("mlp-s").to_json()
    with pytest.raises(TypeError, match=r"builder of an architecture is 0\.5, not str"):
        ArchConfig.from_json({**content, "builder": 0.5})
    with pytest.raises(TypeError, match=r"options of an architecture is \[1\], not dict"):
        ArchConfig.from_json({**content, "options": [1]})


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_configurations_survive_json_and_texts_tell_them_apart(name: str) -> None:
    config = arch_config(name)
    assert ArchConfig.from_json(config.to_json()) == config
    assert sum(other.text() == config.text() for other in ARCHITECTURES.values()) == 1
