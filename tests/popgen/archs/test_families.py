"""The families of networks are those of their papers: torchvision's and timm's implementations give the same outputs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from timm.utils.model import reparameterize_model
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import MobileNetV2, ShuffleNetV2
from torchvision.models.vgg import make_layers

from popgen.archs import ArchSpec, arch_config, build
from popgen.errors import BadInput
from popgen.types import StateDict


def conv_norm(c_in: int, c_out: int, kernel: int = 1, groups: int = 1) -> int:
    """Parameters of a convolution without bias and its batch norm."""
    return c_in // groups * c_out * kernel**2 + 2 * c_out


def inverted_residual(c_in: int, c_out: int, expansion: int) -> int:
    inner = c_in * expansion
    expand = conv_norm(c_in, inner) if expansion > 1 else 0
    return expand + conv_norm(inner, inner, 3, inner) + conv_norm(inner, c_out)


def unit(half: int) -> int:
    return 2 * conv_norm(half, half) + conv_norm(half, half, 3, half)


def halving_unit(c_in: int, half: int) -> int:
    passed = conv_norm(c_in, c_in, 3, c_in) + conv_norm(c_in, half)
    return passed + conv_norm(c_in, half) + conv_norm(half, half, 3, half) + conv_norm(half, half)


def block(c_in: int, c_out: int) -> int:
    return conv_norm(c_in, c_out, 3) + conv_norm(c_in, c_out) + (2 * c_out if c_in == c_out else 0)


COUNTS = {
    "vgg-s": sum(conv_norm(*widths, 3) for widths in pairwise([3, 8, 8, 24, 24, 48, 48])) + 49 * 10,
    "mobilenetv2-s": conv_norm(3, 16, 3)
    + 2 * inverted_residual(16, 16, 1)
    + inverted_residual(16, 24, 3)
    + inverted_residual(24, 24, 3)
    + inverted_residual(24, 40, 3)
    + inverted_residual(40, 40, 3)
    + conv_norm(40, 128)
    + 129 * 10,
    "shufflenetv2-s": conv_norm(3, 24, 3)
    + halving_unit(24, 24)
    + unit(24)
    + halving_unit(48, 48)
    + unit(48)
    + conv_norm(96, 128)
    + 129 * 10,
    # A block of the stem has no identity: its input are the three colours.
    "repvgg-s": block(3, 16)
    + 2 * block(16, 16)
    + block(16, 24)
    + block(24, 24)
    + block(24, 48)
    + block(48, 48)
    + 49 * 10,
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_those_counted_by_hand(name: str) -> None:
    assert sum(p.numel() for p in build(name).parameters()) == COUNTS[name]


def drawn(net: nn.Module, seed: int = 0) -> nn.Module:
    """The network in evaluation mode, with random batch norms and biases instead of fresh ones."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point() and tensor.dim() == 1:
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator) - 0.5 * name.endswith("bias"))
    return net.eval()


def in_order(source: nn.Module, target: nn.Module) -> nn.Module:
    """The target with the values of the source, whose tensors have the same shapes in the same order."""
    values = list(source.state_dict().values())
    names = list(target.state_dict())
    target.load_state_dict(dict(zip(names, values, strict=True)))
    return target.eval()


IMAGES = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def assert_equal_outputs(net: nn.Module, reference: nn.Module) -> None:
    with torch.no_grad():
        wanted = reference(IMAGES)
        assert wanted.std() > 1e-3
        assert torch.allclose(net(IMAGES), wanted, rtol=1e-5, atol=1e-5)


def test_vgg_has_the_features_of_torchvision() -> None:
    net = drawn(build("vgg-s/widths:4-6/blocks:2", seed=0))
    features = make_layers([4, 4, "M", 6, 6, "M"], batch_norm=True)
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            layer.bias = None  # batch norm has one
    reference = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))
    assert_equal_outputs(net, in_order(net, reference))


def test_mobilenet_is_that_of_torchvision() -> None:
    net = drawn(build("mobilenetv2-s/stem:16/widths:8-12-16/expansion:4/last:1280", seed=0))
    settings = [[1, 16, 2, 1], [4, 24, 2, 2], [4, 32, 2, 2]]  # expansion, channels, blocks, stride
    reference = MobileNetV2(10, width_mult=0.5, inverted_residual_setting=settings, round_nearest=4)
    assert_equal_outputs(net, in_order(net, reference))


def test_shufflenet_is_that_of_torchvision_without_its_max_pooling() -> None:
    net = drawn(build("shufflenetv2-s/stem:6/widths:8-12-20/blocks:3/last:32", seed=0))
    reference = ShuffleNetV2([3, 3, 3], [6, 8, 12, 20, 32], 10)
    reference.maxpool = nn.Identity()
    assert_equal_outputs(net, in_order(net, reference))


def timm_names(state: StateDict) -> Iterator[tuple[str, Tensor]]:
    """A state dict of repvgg-s under timm's names."""
    branches = {"dense": "conv_kxk", "pointwise": "conv_1x1", "identity": "identity"}
    for name, tensor in state.items():
        if name.startswith("linear."):
            yield name.replace("linear", "head.fc"), tensor
            continue
        parts = name.split(".")
        if parts[0] != "stem":
            parts[:2] = ["stages", str(int(parts[0].removeprefix("layer")) - 1), parts[1]]
        yield ".".join(branches.get(part, part) for part in parts), tensor


def test_repvgg_is_that_of_timm_before_and_after_its_branches_are_one_convolution() -> None:
    net = drawn(build("repvgg-s/widths:8-16/blocks:2", seed=0))
    blocks = tuple(ByoBlockCfg("rep", d=2, c=width, s=stride, gs=0) for width, stride in ((8, 1), (16, 2)))
    reference = ByobNet(ByoModelCfg(blocks, stem_type="rep", stem_chs=8), num_classes=10).eval()
    reference.load_state_dict(dict(timm_names(net.state_dict())))
    assert_equal_outputs(net, reference)
    plain = reparameterize_model(reference)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in plain.modules())
    assert_equal_outputs(net, plain)


def fused(net: nn.Module, prefix: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that a block of RepVGG is (arXiv 2101.03697, section 3.3)."""
    state = {k.removeprefix(prefix): v for k, v in net.state_dict().items() if k.startswith(prefix)}
    weight, bias = torch.zeros(()), torch.zeros(())
    for branch in ("dense.bn.", "pointwise.bn.", "identity."):
        if f"{branch}weight" not in state:
            continue
        scale = state[f"{branch}weight"] * (state[f"{branch}running_var"] + 1e-5).rsqrt()
        if branch == "identity.":  # a 1x1 convolution that gives each channel itself
            kernel = torch.eye(len(scale))[:, :, None, None]
        else:
            kernel = state[branch.replace("bn.", "conv.weight")]
        kernel = kernel if kernel.shape[-1] == 3 else F.pad(kernel, (1, 1, 1, 1))
        weight = weight + kernel * scale.view(-1, 1, 1, 1)
        bias = bias + state[f"{branch}bias"] - state[f"{branch}running_mean"] * scale
    return weight, bias


def test_the_branches_of_repvgg_are_one_convolution() -> None:
    net = drawn(build("repvgg-s", seed=0))
    with torch.no_grad():
        x = IMAGES
        for prefix, stride in (("stem", 2), ("layer1.0", 1), ("layer1.1", 1), ("layer2.0", 2), ("layer2.1", 1)):
            weight, bias = fused(net, f"{prefix}.")
            wanted = net.get_submodule(prefix)(x)
            assert torch.allclose(F.relu(F.conv2d(x, weight, bias, stride, 1)), wanted, rtol=1e-4, atol=1e-4)
            x = wanted


def test_depthwise_convolutions_are_convolutions_of_one_channel() -> None:
    for name, tensor, channels in (
        ("mobilenetv2-s", "layer2.0.depthwise.conv.weight", 48),
        ("shufflenetv2-s", "layer1.0.pass_depthwise.conv.weight", 24),
    ):
        found = next(t for t in ArchSpec.from_config(name).tensors if t.name == tensor)
        assert (found.kind, found.shape, found.fan_in) == ("conv", (channels, 1, 3, 3), 9)


def test_a_stem_can_keep_the_size_of_the_image() -> None:
    for name in ("mobilenetv2-s", "shufflenetv2-s", "repvgg-s"):
        nets = [build(f"{name}/stem_stride:{stride}", seed=0).eval() for stride in (1, 2)]
        assert [net.stem(IMAGES).shape[-1] for net in nets] == [32, 16]


def test_odd_widths_of_shufflenet_are_refused() -> None:
    with pytest.raises(BadInput, match="does not take these options") as caught:
        build("shufflenetv2-s/widths:9-12")
    assert "widths are even" in str(caught.value.why)


def test_the_text_of_a_family_has_its_options() -> None:
    assert arch_config("repvgg-s", classes=8).text() == (
        "repvgg network, blocks 2, stem stride 2, widths 16 24 48, input 3x32x32, 8 classes"
    )
