"""Adapters of peft come into a zoo with their own architecture, and other methods are refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_bases import save_base
from torch import nn
from torch.func import functional_call
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from popgen.archs import build
from popgen.errors import BadInput, BrokenFile, NotFound, PopgenError
from popgen.texts import to_bytes
from popgen.zoo import Zoo
from popgen.zoo.imports.adapters import complete_adapter, is_adapter_folder
from popgen.zoo.imports.checkpoint import ForeignCheckpoint, import_checkpoint

REAL = Path(__file__).parents[5] / "shared" / "data"
TEXTS = ["a good film", "the food was very dull and not warm", "bad"]
Save = Callable[..., Path]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_base(tmp_path / "base")


@pytest.fixture
def save(base: Path, tmp_path: Path) -> Save:
    """Save an adapter as peft does; keyword arguments are those of LoraConfig."""

    def saved(name: str = "mine", classes: int = 0, **settings: Any) -> Path:
        net = (
            AutoModelForSequenceClassification.from_pretrained(base, num_labels=classes)
            if classes
            else AutoModel.from_pretrained(base)
        )
        plain = {"r": 2, "lora_alpha": 4, "target_modules": ["query", "value"], "layers_to_transform": [1, 2]}
        adapted = get_peft_model(net, LoraConfig(**(plain | settings)))
        for parameter in (p for n, p in adapted.named_parameters() if "lora_" in n):
            nn.init.normal_(parameter, std=0.3)
        adapted.save_pretrained(tmp_path / name)
        return tmp_path / name

    return saved


def imported(folder: Path, **fields: Any) -> ForeignCheckpoint:
    return complete_adapter(ForeignCheckpoint(folder, data="d", **fields))


def alter(folder: Path, **settings: Any) -> Path:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return folder


def expected_vectors(folder: Path, base: Path) -> torch.Tensor:
    """Vectors of TEXTS by peft."""
    from peft import PeftModel

    net = PeftModel.from_pretrained(AutoModel.from_pretrained(base), folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    with torch.no_grad():
        states = [net(**tokenizer(text, return_tensors="pt")).last_hidden_state.mean(1) for text in TEXTS]
    return nn.functional.normalize(torch.cat(states), dim=1)


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True, "r": 4}, {"layers_to_transform": None}])
def test_an_adapter_computes_what_it_computes_in_peft(save: Save, base: Path, settings: dict[str, Any]) -> None:
    folder = save(**settings)
    record, state = import_checkpoint(imported(folder))
    first = 0 if settings.get("layers_to_transform", 1) is None else 1
    r, alpha = (4, 8) if settings.get("use_rslora") else (2, 4)
    assert record.arch == f"lora:{base}/r:{r}/alpha:{alpha}/targets:query+value/layers:{first}-2"
    assert record.id == f"{record.arch}/d/mine"
    assert set(state) == set(load_file(folder / "adapter_model.safetensors"))
    net, inputs = build(record.arch_config), record.arch_config.inputs.prepare(to_bytes(TEXTS))
    with torch.no_grad():
        assert torch.allclose(functional_call(net, state, inputs), expected_vectors(folder, base), atol=1e-5)


def test_a_classifier_is_imported_without_its_head(save: Save) -> None:
    folder = save(classes=3, task_type="SEQ_CLS")
    record, state = import_checkpoint(imported(folder))
    assert "left out base_model.model.classifier.bias, base_model.model.classifier.weight" in record.note
    assert "removed the prefix 'base_model.model.bert.encoder.layer.'" in record.note
    assert not any("bert" in name or "classifier" in name for name in state)
    stored = load_file(folder / "adapter_model.safetensors")
    for name, tensor in state.items():
        assert torch.equal(tensor, stored[name.replace("base_model.model.", "base_model.model.bert.")])


def test_the_base_may_lie_elsewhere(save: Save, base: Path, tmp_path: Path) -> None:
    folder = alter(save(), base_model_name_or_path="owner/gone")
    moved = Path(shutil.move(base, tmp_path / "moved"))
    assert f"lora:{moved}/" in imported(folder, base=str(moved)).arch
    with pytest.raises(NotFound, match="there is no base './nowhere'"):
        imported(folder, base="./nowhere")


def test_without_its_base_an_adapter_is_kept_and_cannot_be_run(save: Save, tmp_path: Path) -> None:
    folder = alter(save(classes=2, task_type="SEQ_CLS"), base_model_name_or_path="gone-base")
    record, state = import_checkpoint(imported(folder))
    assert "its base 'gone-base' is not here: imported unverified, and cannot be run" in record.note
    zoo = Zoo.create(tmp_path / "zoo", "zoo")
    zoo.add([(record, state)])
    again = Zoo.open(tmp_path / "zoo")
    kept = again.state(again.record(record.id))
    stored = load_file(folder / "adapter_model.safetensors")
    assert set(kept) == {name for name in stored if "lora" in name}
    assert all(torch.equal(tensor, stored[name]) for name, tensor in kept.items())
    with pytest.raises(NotFound, match="the base 'gone-base' of this adapter is not here"):
        build(record.arch_config)(torch.zeros(1, 4, 33))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"peft_type": "IA3"}, "an adapter of the kind IA3"),
        ({"use_dora": True}, "use_dora is True\nDoRA also trains"),
        ({"bias": "lora_only"}, "bias is 'lora_only'\nit also trains biases"),
        ({"lora_bias": True}, "lora_bias is True"),
        ({"rank_pattern": {"value": 8}}, "rank_pattern is"),
        ({"alpha_pattern": {"value": 8}}, "alpha_pattern is"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out is True"),
        ({"use_qalora": True}, "use_qalora is True"),
        ({"layer_replication": [[0, 2]]}, "layer_replication is"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices is"),
        ({"init_lora_weights": "pissa_niter_4"}, "that changes the base as well"),
        ({"use_rslora": True}, "rsLoRA's factor alpha / sqrt"),
        ({"lora_alpha": 1.5}, "its lora_alpha is no whole alpha"),
    ],
)
def test_what_is_not_plain_lora_is_refused_by_name(save: Save, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as raised:
        imported(alter(save(), **settings))
    assert said in str(raised.value)


def test_damaged_folders_are_refused(save: Save, tmp_path: Path) -> None:
    folder = save()
    weights = folder / "adapter_model.safetensors"
    tensors = load_file(weights)
    save_file({**tensors, "base_model.model.embeddings.word_embeddings.weight": torch.zeros(2, 2)}, weights)
    _refused(folder, BadInput, "also trains other tensors than LoRA")
    save_file({"base_model.model.classifier.weight": torch.zeros(2, 2)}, weights)
    _refused(folder, BrokenFile, "holds no LoRA tensors")
    save_file(tensors, weights)
    _refused(alter(folder, r=3), BrokenFile, "r is 3, and 2 in its tensors")
    weights.rename(folder / "adapter_model.bin")
    _refused(folder, BadInput, "that is a pickle, and adapters are not unpickled")
    (folder / "adapter_model.bin").unlink()
    _refused(folder, NotFound, "holds no adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("[]")
    _refused(folder, BrokenFile, "it has no peft_type")
    (folder / "adapter_config.json").write_text("{")
    _refused(folder, BrokenFile, "is not JSON")
    assert not is_adapter_folder(tmp_path)


def _refused(folder: Path, kind: type[PopgenError], said: str) -> None:
    with pytest.raises(kind) as raised:
        imported(folder)
    assert said in str(raised.value)


def test_layers_with_gaps_and_other_architectures_are_refused(save: Save) -> None:
    with pytest.raises(BadInput, match="changes the layers 0, 2"):
        imported(save("gaps", layers_to_transform=[0, 2]))
    with pytest.raises(BadInput, match="--arch names 'cnn-s'"):
        imported(save(), arch="cnn-s")


def test_one_architecture_of_a_zoo_has_one_base_rank_and_place(
    save: Save, tmp_path: Path, popgen: Callable[..., Any]
) -> None:
    """A folder of adapters comes in; what differs in rank or layers is left out, and the difference is said."""
    save("many/a"), save("many/b")
    zoo = tmp_path / "zoo"
    shared = ("--zoo", zoo, "--data", "d", "--as", "mine")
    assert len(popgen("zoo", "import", tmp_path / "many", *shared, "--json").json["added"]) == 2
    called = popgen("zoo", "import", save("c", r=4, lora_alpha=8, layers_to_transform=[2]), *shared, code=4)
    assert "r 4, not 2" in called.err and "layers [2, 2], not [1, 2]" in called.err and "--as NAME" in called.err
    called = popgen("zoo", "import", save("d"), *shared, "--mean", "0.5", code=4)
    assert "mean is for networks of images" in called.err
    net = tmp_path / "net.safetensors"
    save_file(build("mlp-s", seed=0).state_dict(), net)
    called = popgen("zoo", "import", net, "--zoo", zoo, "--data", "d", "--arch", "mlp-s", "--base", "minilm", code=4)
    assert "is no adapter" in called.err


@pytest.mark.real
@pytest.mark.parametrize("name", ["lora_distilbert_emotion", "lora_distilbert_imdb"])
def test_published_adapters_come_in_without_their_base(name: str) -> None:
    folder = REAL / "checkpoints" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    record, state = import_checkpoint(imported(folder))
    assert len(state) == 24 and sum(tensor.numel() for tensor in state.values()) == 147_456
    assert record.arch_config.options["targets"] == ["q_lin", "v_lin"] and "imported unverified" in record.note
