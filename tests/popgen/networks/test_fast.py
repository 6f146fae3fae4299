"""Fast evaluation gives the outputs of the plain module: folding, cutting, batches, precision, Ray's object store."""

from __future__ import annotations

import pickle
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from popgen.archs import ArchConfig, ArchSpec, build
from popgen.data import load_data
from popgen.errors import BadInput
from popgen.fitness import LatentObjective, make_fitness
from popgen.generator import Generator
from popgen.networks.fast import FastNetwork, fast_network
from popgen.networks.folding import fold_batch_norm
from popgen.networks.forward import network_features, network_outputs
from popgen.networks.passes import Passes
from popgen.networks.skeleton import skeleton
from popgen.weights.mask import Mask


class Branching(nn.Module):
    """A network that cannot be traced, because its control flow depends on the images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x if x.mean() > 0.5 else -x))
        return self.head(y.mean((2, 3)))


class ReadTwice(nn.Module):
    """A network without a batch norm that can be folded.

    The output of the convolution is read twice, no layer stands before the second batch norm, and one module is unused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.other = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.idle, self.head = nn.Linear(3, 3), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.head(self.other(F.relu(self.norm(y) + y)).mean((2, 3)))


class Sequence(nn.Module):
    """A network whose batch norm normalises another axis than the linear layer's outputs, so that folding is wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.norm, self.head = nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.wide(x[:, 0])).flatten(1))


class Headless(nn.Module):
    """A network that never calls its last linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.idle = nn.Conv2d(1, 10, 8), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).flatten(1)


def make_plain_norms() -> nn.Module:
    """Convolutions and linear layers with and without bias, before batch norms with and without weights."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=2, bias=False),
        nn.BatchNorm2d(6, affine=False, eps=0.1),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, groups=3),
        nn.BatchNorm2d(6),
        nn.Flatten(),
        nn.Linear(6, 12),
        nn.BatchNorm1d(12),
        nn.ReLU(),
        nn.Linear(12, 10),
    )


def spec_of(name: str) -> ArchSpec:
    return ArchSpec.from_config(ArchConfig(name, f"{__name__}:{name}") if name in globals() else name)


def drawn(spec: ArchSpec, seed: int = 0) -> Tensor:
    """Weights of a network with random batch norms instead of fresh ones, which are nearly the identity."""
    generator = torch.Generator().manual_seed(seed)
    state = build(spec.config, seed=seed).state_dict()
    for tensor in spec.tensors:
        if tensor.kind.startswith("norm"):
            state[tensor.name] = torch.rand(tensor.shape, generator=generator) + 0.5
    return spec.to_flat(state)


def images(spec: ArchSpec, n: int = 7) -> Tensor:
    return torch.rand(n, *spec.config.inputs.shape, generator=torch.Generator().manual_seed(1))


FAMILIES = ["vgg-s", "mobilenetv2-s", "shufflenetv2-s", "repvgg-s"]
NETS = ["mlp-s", "cnn-s", "resnet-s", "resnet20", *FAMILIES, "make_plain_norms", "Branching", "ReadTwice", "Sequence"]


@pytest.mark.parametrize("name", NETS)
def test_outputs_and_features_are_those_of_the_plain_network(name: str) -> None:
    spec = spec_of(name)
    flat, inputs = drawn(spec), images(spec)
    passes = Passes(spec, inputs)
    with torch.no_grad():
        wanted = network_outputs(spec, flat, inputs)
        assert torch.allclose(passes.outputs(flat), wanted, rtol=1e-5, atol=1e-5)
        assert torch.equal(passes.outputs(flat, 2, 5), Passes(spec, inputs[2:5]).outputs(flat))
        assert torch.allclose(passes.features(flat), network_features(spec, flat, inputs), rtol=1e-5, atol=1e-5)
    assert not passes.outputs(flat.requires_grad_()).requires_grad


@pytest.mark.parametrize(
    ("name", "folds", "said"),
    [
        ("mlp-s", 0, "0 batch norms folded, batches of 1000"),
        ("resnet-s", 6, "6 batch norms folded, batches of 1000"),
        ("resnet20", 19, "19 batch norms folded, channels last, batches of 32"),
        ("vgg-s", 6, "6 batch norms folded"),
        ("mobilenetv2-s", 18, "18 batch norms folded"),
        ("shufflenetv2-s", 18, "18 batch norms folded"),
        ("repvgg-s", 14, "14 batch norms folded"),  # those of the identities stay, as no layer stands before them
        ("make_plain_norms", 3, "3 batch norms folded, batches of 1000"),
        ("ReadTwice", 0, "0 batch norms folded, batches of 1000"),
        ("Branching", 0, "no folding (it cannot be traced: TraceError)"),
        ("Sequence", 0, "no folding (folded, it gives other outputs), batches of 1000"),
    ],
)
def test_what_is_folded_is_said(name: str, folds: int, said: str) -> None:
    network = fast_network(spec_of(name))
    assert len(network.folded.folds) == folds
    assert network.text.startswith(said)
    assert fast_network(spec_of(name)) is network


def test_folding_is_exact_and_differentiable() -> None:
    """The outputs agree in double precision up to rounding, for any weights."""
    spec = spec_of("make_plain_norms")
    net, inputs = build(spec.config, seed=0).double().eval(), images(spec).double()
    folded = fold_batch_norm(net, inputs)

    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 1000))
    def check(seed: int) -> None:
        state = {name: tensor.double() for name, tensor in spec.to_state(drawn(spec, seed)).items()}
        wanted = functional_call(net, state, (inputs,))
        state = {name: tensor.requires_grad_() for name, tensor in state.items()}
        got = functional_call(folded.net, folded.state(state), (inputs,))
        assert torch.allclose(got, wanted, rtol=1e-9, atol=1e-9)
        got.square().sum().backward()
        assert all(state[tensor.name].grad is not None for tensor in spec.tensors)

    check()


def test_the_module_that_is_folded_stays_as_it_was() -> None:
    spec = spec_of("resnet20")
    before = {name: tensor.clone() for name, tensor in skeleton(spec).state_dict().items()}
    Passes(spec, images(spec)).outputs(drawn(spec))
    after = skeleton(spec).state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_batches_do_not_matter_much_and_not_at_all_to_themselves() -> None:
    spec = spec_of("resnet20")
    flat, inputs = drawn(spec), images(spec, 70)  # batches of 32, 32 and 6 images
    whole = Passes(spec, inputs).outputs(flat)
    assert torch.equal(whole[:32], Passes(spec, inputs[:32]).outputs(flat))
    assert torch.equal(whole, Passes(spec, inputs).outputs(flat))
    assert torch.allclose(whole, network_outputs(spec, flat, inputs), atol=1e-4)


def test_no_features_without_a_head() -> None:
    spec = spec_of("Headless")
    with pytest.raises(BadInput, match="'Headless' does not call its last linear layer 'idle'\nso it has no features"):
        Passes(spec, images(spec)).features(drawn(spec))


# Layers shared by all candidates


def parts_of(spec: ArchSpec, patterns: tuple[str, ...], base: Tensor) -> Mask:
    mask = [torch.full((t.size,), any(fnmatchcase(t.name, p) for p in patterns)) for t in spec.tensors]
    return Mask(torch.cat(mask), base, "")


@pytest.mark.parametrize(
    ("name", "patterns", "shared"),
    [
        ("resnet20", ("layer3*", "linear*"), 2 * 13),  # weight and bias of each convolution before layer3
        ("resnet20", ("layer3.0.bn1.weight",), 2 * 13),
        ("resnet20", ("linear*",), 2 * 19),
        ("resnet-s", ("layer2.0.shortcut*",), 2 * 5),  # all layers but the shortcut and the head
        ("cnn-s", ("6.*",), 4),
        ("cnn-s", ("0.bias",), 0),
        ("Branching", ("head*",), 0),
        ("ReadTwice", ("other*",), 6),
    ],
)
def test_shared_layers_are_run_once_and_change_nothing(name: str, patterns: tuple[str, ...], shared: int) -> None:
    spec = spec_of(name)
    base, inputs = drawn(spec), images(spec)
    mask = parts_of(spec, patterns, base)
    once, whole = Passes(spec, inputs, mask.fixed(spec)), Passes(spec, inputs)
    calls = []
    first = once._cut.before if once._cut else None
    if first is not None:
        first.register_forward_hook(lambda *_: calls.append(1))
    said = f"the layers of {shared} shared tensors only once"
    assert once.text == whole.text + (f", {said}" if shared else "")
    candidates = [mask.compose(drawn(spec, seed)) for seed in (1, 2)]
    other = drawn(spec, 3)  # a network without the shared weights
    for flat in (candidates[0], other, candidates[1]):
        assert torch.equal(once.outputs(flat), whole.outputs(flat))
        assert torch.equal(once.features(flat), whole.features(flat))
    assert not torch.equal(once.outputs(candidates[0]), once.outputs(candidates[1]))
    assert len(calls) == (1 if shared else 0)


def test_activations_that_are_too_large_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of("resnet20")
    fixed = parts_of(spec, ("layer3*", "linear*"), drawn(spec)).fixed(spec)
    # The activations of 7 images in bytes: the output of layer 2, and that of layer 3's first shortcut.
    kept = 7 * 4 * (32 * 16 * 16 + 64 * 8 * 8)
    monkeypatch.setattr("popgen.networks.passes._KEPT", kept)
    assert "shared" in Passes(spec, images(spec), fixed).text
    monkeypatch.setattr("popgen.networks.passes._KEPT", kept - 1)
    assert "shared" not in Passes(spec, images(spec), fixed).text


# Vectorised passes, which a GPU uses, and bfloat16


@pytest.mark.parametrize("name", ["mlp-s", "resnet-s", "resnet20"])
def test_many_at_once(name: str) -> None:
    spec = spec_of(name)
    weights, inputs = torch.stack([drawn(spec, seed) for seed in range(3)]), images(spec, 5)
    passes = Passes(spec, inputs)
    assert torch.equal(passes.outputs_of_many(weights), torch.stack([passes.outputs(flat) for flat in weights]))
    assert torch.allclose(passes._vectorised(weights), passes.outputs_of_many(weights), rtol=1e-4, atol=1e-4)
    head = spec.head + "*"
    mask = parts_of(spec, (head,), weights[0])
    weights = mask.compose(weights)
    once = Passes(spec, inputs, mask.fixed(spec))
    assert torch.allclose(once._vectorised(weights), passes.outputs_of_many(weights), rtol=1e-4, atol=1e-4)


def test_bfloat16() -> None:
    spec = spec_of("resnet20")
    flat, inputs = drawn(spec), images(spec)
    exact, rounded = Passes(spec, inputs).outputs(flat), Passes(spec, inputs, bfloat16=True)
    got = rounded.outputs(flat)
    assert rounded.text.endswith("batches of 64, bfloat16")  # activations take half the space
    assert got.dtype == rounded.features(flat).dtype == torch.float32
    assert 1e-5 < float((got - exact).abs().max() / exact.abs().max()) < 0.05
    assert torch.allclose(rounded._vectorised(flat[None])[0], got, atol=0.05 * float(exact.abs().max()))


# Passes within a Fitness


@pytest.mark.parametrize(("arch", "head"), [("cnn-s", "keep"), ("cnn-s", "refit"), ("resnet-s", "refit")])
def test_an_objective_of_parts_gives_the_losses_of_its_whole_networks(arch: str, head: str) -> None:
    data, generator = load_data("digits/rotate:45"), Generator.from_pretrained("digits")
    spec = generator.spec(arch)
    fitness = make_fitness(spec, data, data.classes, head)
    last = {"cnn-s": ("3.*", "6.*"), "resnet-s": ("layer2*", "linear*")}[arch]
    mask = parts_of(spec, last, drawn(spec))
    decoder = replace(generator.decoder(arch), mask=mask)
    objective = LatentObjective(decoder, fitness, rungs=(0.5,))
    vector = np.random.default_rng(0).normal(size=generator.codes[0].numel())
    score = fitness.score(decoder.weights(vector))
    assert "shared tensors" in objective.evaluation and "shared tensors" not in fitness.evaluation
    assert objective(vector)[0] == objective(vector)[0] == score.loss
    assert objective.many(vector[None])[0][0] == score.loss
    assert (
        objective.look(vector, 1.0, None)[0]
        == LatentObjective(decoder, fitness, rungs=(0.5,)).look(vector, 1.0, None)[0]
    )


def test_a_pickled_objective_shares_the_memory_of_its_images() -> None:
    """Ray's object store holds the buffers of numpy arrays beside the pickle, read-only; the images stay there."""
    data, generator = load_data("digits/rotate:45"), Generator.from_pretrained("digits")
    objective = LatentObjective(generator.decoder("cnn-s"), make_fitness(generator.spec("cnn-s"), data, data.classes))
    vector = np.random.default_rng(0).normal(size=generator.codes[0].numel())
    result = objective(vector)
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(objective, protocol=5, buffer_callback=buffers.append)
    assert sum(buffer.raw().nbytes for buffer in buffers) >= 1300 * 64 * 4
    stored = [bytes(buffer.raw()) for buffer in buffers]
    held = pickle.loads(pickled, buffers=stored)
    assert held(vector) == result
    addresses = {np.frombuffer(one, dtype=np.uint8).ctypes.data for one in stored}
    assert {held.fitness.train[0].data_ptr(), held.fitness.val[0].data_ptr()} <= addresses


def test_a_gpu_gets_large_batches() -> None:
    network = FastNetwork(spec_of("resnet20"), "meta")
    assert network.batch == 1000 and network.channels_last
