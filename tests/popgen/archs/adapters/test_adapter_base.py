"""A frozen base is loaded, split into layers, hashed, and refused where it is not what an adapter was made with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tiny_bases import save_base
from transformers import AutoModel, AutoTokenizer, ResNetConfig, ResNetModel

from popgen.archs import ArchConfig, arch_config, build
from popgen.archs.adapters.base import base_folder, base_sha256, check_base, load_base, text_features
from popgen.archs.adapters.inputs import TextInputs
from popgen.errors import BadInput, BrokenFile, NotFound, Offline
from popgen.texts import to_bytes

TEXTS = ["a good film", "the food was very dull and not warm", "bad"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("bases") / "bert")


def test_features_are_the_mean_of_the_last_states_of_real_tokens(base: Path) -> None:
    found = text_features(load_base(str(base)), TEXTS, 16)
    net, tokenizer = AutoModel.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    for text, features in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            states = net(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        expected = states.mean(0) / states.mean(0).norm()
        assert torch.allclose(features, expected, atol=1e-6)


@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_states_are_those_that_transformers_returns(base: Path, before: int) -> None:
    net, tokenizer = AutoModel.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    tokens = tokenizer(TEXTS, return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = net(**tokens, output_hidden_states=True).hidden_states[before]
    states = load_base(str(base)).states(TEXTS, 16, before)
    mask = tokens["attention_mask"]
    assert torch.equal(states[..., -1], mask.float())
    assert torch.allclose(states[..., :-1], expected * mask[..., None], atol=1e-6)


def test_no_texts_have_no_states(base: Path) -> None:
    assert load_base(str(base)).states([], 16, 1).shape == (0, 1, 33)


def test_texts_are_cut_to_the_context(base: Path) -> None:
    assert load_base(str(base)).states(TEXTS, 4, 0).shape == (3, 4, 33)


def test_the_hash_is_that_of_the_files_wherever_they_are(base: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(base, tmp_path / "copy"))
    assert base_sha256(str(copied)) == base_sha256(str(base))
    check_base(str(copied), base_sha256(str(base)))
    check_base(str(copied), "")
    assert base_sha256(str(save_base(tmp_path / "other", seed=1))) != base_sha256(str(base))
    assert base_sha256("owner/name") == ""


def test_a_base_whose_files_changed_is_refused(base: Path, tmp_path: Path) -> None:
    name = str(shutil.copytree(base, tmp_path / "base"))
    stored = arch_config(f"lora:{name}/r:2").to_json()
    save_base(Path(name), seed=1)
    base_sha256.cache_clear()  # as in a process that starts later
    load_base.cache_clear()
    with pytest.raises(BadInput, match="is not the one that the adapter was made with") as raised:
        build(ArchConfig.from_json(stored))
    assert stored["options"]["base_sha256"][:12] in str(raised.value)


def test_names_of_no_base_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no base './nowhere'"):
        base_folder("./nowhere")
    with pytest.raises(NotFound, match=r"has no config.json and no \*.safetensors"):
        base_folder(str(tmp_path))
    with pytest.raises(Offline, match="the base 'owner/name' could not be fetched") as raised:
        load_base("owner/name")
    assert "hf download owner/name" in str(raised.value)


def test_a_damaged_base_is_refused(base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "base"))
    (folder / "config.json").write_text('{"model_type": "no such model"}')
    with pytest.raises(BrokenFile, match="transformers cannot load the base"):
        load_base(str(folder))


def test_cut_off_weights_are_refused(base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "base"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(BrokenFile, match="transformers cannot load the base"):
        load_base(str(folder))


def test_a_network_without_a_list_of_layers_is_refused(tmp_path: Path) -> None:
    folder = save_base(tmp_path / "base")
    ResNetModel(ResNetConfig(embedding_size=4, hidden_sizes=[4, 4], depths=[1, 1])).save_pretrained(folder)
    with pytest.raises(BadInput, match="has no list of"):
        load_base(str(folder))


def test_images_are_no_texts(base: Path) -> None:
    with pytest.raises(BadInput, match="reads texts"):
        TextInputs(str(base), 16, 0, 32).prepare(torch.rand(2, 1, 8, 8))


def test_prepared_texts_are_kept(base: Path) -> None:
    inputs = TextInputs(str(base), 16, 1, 32)
    once, again = inputs.prepare(to_bytes(TEXTS)), inputs.prepare(to_bytes(TEXTS))
    assert once is again
    assert inputs.prepare(to_bytes(TEXTS[:2])) is not once


def test_inputs_say_what_they_are(base: Path) -> None:
    inputs = TextInputs(str(base), 16, 2, 32)
    assert TextInputs.from_json(inputs.to_json()) == inputs
    assert inputs.shape == (16, 33) and inputs.example(3).shape == (3, 4, 33)
    assert inputs.text() == "input texts of 16 tokens"
    assert "whose first 2 layers run once" in inputs.remark((100,))
    assert "layers" not in TextInputs(str(base), 16, 0, 32).remark((100,))
