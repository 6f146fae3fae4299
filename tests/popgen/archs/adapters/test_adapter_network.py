"""An adapter's network computes what peft computes on the whole base, whatever the base's kind and however texts are padded."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from tiny_bases import save_base
from torch import Tensor, nn
from torch.func import functional_call
from transformers import AutoModel, AutoTokenizer

from popgen.archs import ArchConfig, ArchSpec, arch_config, build
from popgen.archs.adapters.base import load_base, text_features
from popgen.archs.adapters.config import is_adapter_config, phrase_features, with_phrases
from popgen.archs.adapters.network import TEMPERATURE, centred_features
from popgen.errors import BadInput
from popgen.texts import join_pair, to_bytes

TARGETS = {
    "bert": ["query", "value"],
    "distilbert": ["q_lin", "v_lin"],
    "roberta": ["query", "value"],
    "llama": ["q_proj", "v_proj"],
}
TEXTS = ["a good film", "the food was very dull and not warm", "bad", "it is a cold story and not a fine meal"]
PHRASES = ("good film", "bad food", "dull")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {kind: save_base(folder / kind, kind) for kind in TARGETS}


def config_of(base: Path, layers: str = "0-2", targets: str = "query+value", **fields: str) -> ArchConfig:
    name = f"lora:{base}/r:2/targets:{targets}/layers:{layers}/context:16"
    return with_phrases(arch_config(name), PHRASES, fields.get("head"))


def changed(net: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """A state dict whose adapter is not zero."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: tensor + 0.3 * torch.randn(tensor.shape, generator=generator) for name, tensor in net.state_dict().items()
    }


@torch.no_grad()
def outputs(config: ArchConfig, texts: list[str], state: dict[str, Tensor] | None = None) -> Tensor:
    net = build(config, seed=0)
    logits: Tensor = functional_call(net, state or net.state_dict(), config.inputs.prepare(to_bytes(texts)))
    return logits


@pytest.mark.parametrize("kind", TARGETS)
def test_logits_are_those_of_peft_on_the_whole_base(kind: str, bases: dict[str, Path]) -> None:
    base, targets = bases[kind], TARGETS[kind]
    config = config_of(base, "1-2", "+".join(targets))
    state = changed(build(config, seed=0))
    pattern = "layers" if kind == "llama" else "layer"
    lora = LoraConfig(r=2, lora_alpha=4, target_modules=targets, layers_to_transform=[1, 2], layers_pattern=pattern)
    reference = get_peft_model(AutoModel.from_pretrained(base, dtype=torch.float32), lora).eval()
    assert not set_peft_model_state_dict(reference, state).unexpected_keys
    tokenizer = AutoTokenizer.from_pretrained(base)
    weight = TEMPERATURE * centred_features(str(base), PHRASES, 16)
    for text, logits in zip(TEXTS, outputs(config, TEXTS, state), strict=True):
        with torch.no_grad():
            states = reference(**tokenizer(text, return_tensors="pt")).last_hidden_state
        expected = nn.functional.normalize(states.mean(1), dim=-1) @ weight.T
        assert torch.allclose(logits, expected[0], atol=1e-5)
    assert not torch.allclose(outputs(config, TEXTS, state), outputs(config, TEXTS), atol=1e-2)


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("first", [1, 2])
def test_frozen_lower_layers_give_what_the_whole_network_gives(kind: str, first: int, bases: dict[str, Path]) -> None:
    targets = "+".join(TARGETS[kind])
    upper, whole = config_of(bases[kind], f"{first}-2", targets), config_of(bases[kind], "0-2", targets)
    state = changed(build(upper, seed=0))
    below = {name: torch.zeros_like(tensor) for name, tensor in build(whole, seed=0).state_dict().items()}
    assert torch.allclose(outputs(upper, TEXTS, state), outputs(whole, TEXTS, {**below, **state}), atol=1e-5)


@pytest.mark.parametrize("kind", TARGETS)
def test_a_new_adapter_is_the_frozen_base(kind: str, bases: dict[str, Path]) -> None:
    config = config_of(bases[kind], "1-2", "+".join(TARGETS[kind]))
    features = text_features(load_base(str(bases[kind])), TEXTS, 16)
    weight = TEMPERATURE * centred_features(str(bases[kind]), PHRASES, 16)
    assert torch.allclose(outputs(config, TEXTS), features @ weight.T, atol=1e-5)
    bare = with_phrases(config, ())
    assert bare.classes == 32
    assert torch.allclose(outputs(bare, TEXTS), features, atol=1e-5)


@pytest.mark.parametrize("kind", TARGETS)
def test_padding_and_order_of_texts_change_nothing(kind: str, bases: dict[str, Path]) -> None:
    config = config_of(bases[kind], "1-2", "+".join(TARGETS[kind]))
    state = changed(build(config, seed=0))
    many = TEXTS * 10  # more than run together
    together = outputs(config, many, state)
    assert torch.allclose(outputs(config, many[::-1], state).flip(0), together, atol=1e-5)
    alone = torch.cat([outputs(config, [text], state) for text in TEXTS])
    assert torch.allclose(together[:4], alone, atol=1e-5)
    net, inputs = build(config, seed=0), config.inputs.prepare(to_bytes(TEXTS))
    padded = torch.cat([inputs, torch.zeros(4, 5, 33)], 1)
    assert torch.allclose(net(padded), net(inputs), atol=1e-5)


def test_the_state_dict_holds_the_adapter_alone_in_the_names_of_peft(bases: dict[str, Path]) -> None:
    state = build(config_of(bases["bert"], "1-2")).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        f"base_model.model.encoder.layer.{layer}.attention.self.{target}.lora_{ab}.weight": shape
        for layer in (1, 2)
        for target in ("query", "value")
        for ab, shape in (("A", (2, 32)), ("B", (32, 2)))
    }


def test_a_head_of_its_own_starts_at_the_phrases(bases: dict[str, Path]) -> None:
    config = config_of(bases["bert"], "1-2")
    spec = ArchSpec.from_config(config)
    own = spec.with_own_head()
    assert own.head == "classifier" and own.with_own_head() is own
    added = {tensor.name: tensor.shape for tensor in own.tensors[len(spec.tensors) :]}
    assert added == {"classifier.weight": (3, 32), "classifier.bias": (3,)}
    assert torch.equal(outputs(own.config, TEXTS), outputs(config, TEXTS))


def test_phrases_change_neither_tensors_nor_fingerprint(bases: dict[str, Path]) -> None:
    spec = ArchSpec.from_config(f"lora:{bases['bert']}/r:2/layers:1-2")
    two, three = spec.for_classes(PHRASES[:2]), spec.for_classes(PHRASES)
    assert spec.fingerprint == two.fingerprint == three.fingerprint == ArchSpec.from_config(three.config).fingerprint
    assert (two.config.classes, three.config.classes) == (2, 3)
    assert two.config.text() == three.config.text().replace("3 classes", "2 classes")
    features = phrase_features(three.config)
    assert features is not None and torch.allclose(features.sum(0), torch.zeros(32), atol=1e-5)
    assert phrase_features(spec.config) is None and phrase_features(arch_config("cnn-s")) is None
    assert is_adapter_config(spec.config) and not is_adapter_config(arch_config("cnn-s"))
    images = ArchSpec.from_config("cnn-s")
    assert images.for_classes(PHRASES) is images and images.with_own_head() is images
    assert with_phrases(images.config, PHRASES) is images.config


def test_a_configuration_survives_json(bases: dict[str, Path]) -> None:
    config = config_of(bases["bert"], "1-2")
    again = ArchConfig.from_json(config.to_json())
    assert again == config
    assert torch.equal(outputs(again, TEXTS), outputs(config, TEXTS))


def test_pairs_are_read_as_the_tokenizer_reads_pairs(bases: dict[str, Path]) -> None:
    base = bases["bert"]
    net, tokenizer = AutoModel.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    pairs = [("a good film", "not a bad movie"), ("dull", "the food is cold and fine")]
    tokens = tokenizer(*map(list, zip(*pairs, strict=True)), return_tensors="pt", padding=True)
    assert tokens["token_type_ids"].any()
    with torch.no_grad():
        states, mask = net(**tokens).last_hidden_state, tokens["attention_mask"][..., None]
    expected = nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    config = with_phrases(config_of(base, "1-2"), ())
    found = outputs(config, [join_pair(*pair) for pair in pairs])
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, outputs(config, [" ".join(pair) for pair in pairs]), atol=1e-3)


def test_two_networks_share_the_base_and_not_the_adapter(bases: dict[str, Path]) -> None:
    config = config_of(bases["bert"], "1-2")
    one, other = build(config, seed=0), build(config, seed=1)
    frozen = {id(parameter) for parameter in load_base(str(bases["bert"])).net.parameters()}
    held = [p for net in (one, other) for p in net.__dict__["_adapted"].parameters()]
    assert sum(id(p) in frozen for p in held) > 2 * sum(id(p) not in frozen for p in held)
    assert not any(id(parameter) in frozen for parameter in one.parameters())
    before = copy.deepcopy(other.state_dict())
    one.load_state_dict(changed(one))
    assert all(torch.equal(before[name], tensor) for name, tensor in other.state_dict().items())


def test_gradients_reach_the_adapter_alone(bases: dict[str, Path]) -> None:
    config = config_of(bases["bert"], "1-2", head="linear")
    net = build(config, seed=0)
    net.load_state_dict(changed(net))
    net(config.inputs.prepare(to_bytes(TEXTS))).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    assert all(p.grad is None and not p.requires_grad for p in load_base(str(bases["bert"])).net.parameters())


def test_what_a_base_lacks_is_named(bases: dict[str, Path]) -> None:
    with pytest.raises(BadInput, match="has no layer 3") as raised:
        ArchSpec.from_config(config_of(bases["bert"], "2-3"))
    assert "it has 3, counted from 0" in str(raised.value)
    with pytest.raises(BadInput, match="has no query or value in its layers") as raised:
        ArchSpec.from_config(config_of(bases["distilbert"]))
    assert "k_lin, lin1, lin2, out_lin, q_lin, v_lin" in str(raised.value)
