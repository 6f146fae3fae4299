"""`hf:NAME` is an architecture: its outputs and the names of its tensors are those of transformers' own classifiers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_bases import save_base, save_classifier
from torch import nn
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification, AutoTokenizer

from popgen.archs import ArchConfig, ArchSpec, arch_config, class_names, with_classes
from popgen.archs.adapters.modules import hold_children
from popgen.archs.beside import write_beside
from popgen.archs.construction import check_runs
from popgen.archs.outside import pretrained_state
from popgen.errors import BadInput, NotFound, Offline, PopgenError
from popgen.networks.forward import network_features, network_outputs
from popgen.networks.passes import Passes
from popgen.texts import join_pair, to_bytes

PAIRS = [("the film was good", "it was fine"), ("bad", "a very dull story and a cold meal"), ("", "warm")]
TEXTS = ["the film was good", "bad", "a very fine story, and it was not dull", ""]
Made = Callable[..., Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Save a classifier of a kind once, and return its folder."""
    folders: dict[str, Path] = {}

    def save(kind: str = "bert") -> Path:
        if kind not in folders:
            folders[kind] = save_classifier(tmp_path_factory.mktemp("models") / kind, kind)
        return folders[kind]

    return save


@pytest.fixture
def altered(made: Made, tmp_path: Path) -> Made:
    """A copy of a classifier with other settings."""

    def alter(kind: str = "bert", **settings: Any) -> Path:
        folder = Path(shutil.copytree(made(kind), tmp_path / "altered", dirs_exist_ok=True))
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | settings))
        return folder

    return alter


def own_logits(folder: Path, texts: list[Any]) -> torch.Tensor:
    """What transformers computes of texts or pairs, each by itself."""
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    with torch.no_grad():
        return torch.cat([model(**tokenizer(*text, return_tensors="pt")).logits for text in texts])


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "xlm-roberta"])
def test_outputs_and_names_are_those_of_transformers(made: Made, kind: str) -> None:
    folder = made(kind)
    config = arch_config(f"hf:{folder}/context:32")
    check_runs(config)
    assert (config.task, config.classes) == ("classification", 2)
    assert ArchConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    spec, state = ArchSpec.from_config(config), load_file(folder / "model.safetensors")
    assert {tensor.name for tensor in spec.tensors} == set(state) and spec.counters == ()
    flat = spec.to_flat(pretrained_state(f"hf:{folder}"))
    assert torch.equal(flat, spec.to_flat(state))
    for texts, examples in ((TEXTS, TEXTS), (PAIRS, [join_pair(*pair) for pair in PAIRS])):
        inputs = config.inputs.prepare(to_bytes(examples))
        wanted = own_logits(folder, [(text,) if isinstance(text, str) else text for text in texts])
        found = network_outputs(spec, flat, inputs)
        assert torch.allclose(found, wanted, atol=1e-5) and float(wanted.std()) > 0.01
        assert torch.allclose(Passes(spec, inputs).outputs(flat), wanted, atol=1e-5)
    last = next(one for one in spec.tensors if one.name == f"{spec.head}.weight")
    assert last.shape == (2, 32), "the head is the classifier's last layer, whatever order the modules have"
    features = network_features(spec, flat, inputs)
    again = features @ state[f"{spec.head}.weight"].T + state[f"{spec.head}.bias"]
    assert torch.allclose(again, wanted, atol=1e-5)


def test_a_decoder_classifies_by_its_last_token(made: Made) -> None:
    config = arch_config(f"hf:{made('llama')}")
    spec, texts = ArchSpec.from_config(config), TEXTS[:3]
    flat = spec.to_flat(pretrained_state(config.builder))
    found = network_outputs(spec, flat, config.inputs.prepare(to_bytes(texts)))
    assert torch.allclose(found, own_logits(made("llama"), [(text,) for text in texts]), atol=1e-5)


def test_images_are_read_as_the_preprocessor_says(made: Made) -> None:
    folder = made("vit")
    config = arch_config(f"hf:{folder}")
    check_runs(config)
    assert config.inputs.to_json() == {"shape": (3, 8, 8), "mean": (0.5,) * 3, "std": (0.25,) * 3}
    assert ArchConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    spec, images = ArchSpec.from_config(config), torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = AutoModelForImageClassification.from_pretrained(folder).eval()((images - 0.5) / 0.25).logits
    flat = spec.to_flat(pretrained_state(f"hf:{folder}"))
    assert torch.allclose(network_outputs(spec, flat, config.inputs.prepare(images)), wanted, atol=1e-5)
    other = arch_config(f"hf:{folder}", mean=(0.0,), std=(1.0,))
    assert torch.equal(other.inputs.prepare(images), images)


@pytest.mark.parametrize(
    ("said", "shape", "mean"),
    [
        ({"size": 16, "do_normalize": False}, (3, 16, 16), (0.0,)),
        (
            {"size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 12}, "do_center_crop": True},
            (3, 16, 12),
            (0.0,),
        ),
        ({"size": {"shortest_edge": 20}}, (3, 20, 20), (0.0,)),
        ({"size": [12, 16], "image_mean": [0.5, 0.4, 0.3], "image_std": [1, 1, 1]}, (3, 12, 16), (0.5, 0.4, 0.3)),
    ],
)
def test_sizes_of_images_are_read_in_every_form(altered: Made, said: Any, shape: Any, mean: Any) -> None:
    folder = altered("vit")
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "ViTImageProcessor", **said}))
    inputs: Any = arch_config(f"hf:{folder}").inputs
    assert (inputs.shape, inputs.mean) == (shape, mean)


def test_the_words_for_an_architecture(made: Made) -> None:
    config = arch_config(f"hf:{made()}/context:24")
    assert config.text() == "classifier bert of transformers, input texts of 24 tokens, 2 classes"
    assert config.inputs.remark((200,)) == "of each text, at most 200 bytes long, the first 24 tokens are read"
    assert class_names(config.builder, 2) == ("bad", "good") and class_names(config.builder, 3) == ()
    assert arch_config(f"hf:{made()}").inputs.shape == (3, 64), "BERT has 64 positions here"
    assert arch_config(f"hf:{made('roberta')}").inputs.shape == (2, 65), "and RoBERTa 66 but for one of padding"
    assert config.inputs.prepare(torch.zeros(0, 0, dtype=torch.uint8)).shape == (0, 3, 1)


def test_another_number_of_classes_has_a_new_head_that_is_always_the_same(made: Made, tmp_path: Path) -> None:
    folder = made()
    config = arch_config(f"hf:{folder}/num_classes:3")
    assert config == with_classes(arch_config(f"hf:{folder}", name=config.name), 3)
    spec, own = ArchSpec.from_config(config), load_file(folder / "model.safetensors")
    state = pretrained_state(config.builder, config.options)
    spec.check(state, "the state")
    assert all(torch.equal(state[name], own[name]) for name in own if not name.startswith("classifier."))
    assert torch.equal(pretrained_state(f"hf:{folder}/num_classes:3")["classifier.weight"], state["classifier.weight"])
    base = save_base(tmp_path / "base")
    spec = ArchSpec.from_config(f"hf:{base}/num_classes:4")
    state, own = pretrained_state(f"hf:{base}/num_classes:4"), load_file(base / "model.safetensors")
    spec.check(state, "the state")
    assert all(torch.equal(state[f"bert.{name}"], tensor) for name, tensor in own.items())


@pytest.mark.parametrize("kind", ["distilbert", "vit"])
def test_a_result_is_a_folder_that_transformers_loads(made: Made, tmp_path: Path, kind: str) -> None:
    config = arch_config(f"hf:{made(kind)}/num_classes:3")
    spec = ArchSpec.from_config(config)
    flat = torch.randn(spec.size, generator=torch.Generator().manual_seed(0)) * 0.1
    classes = ("low", "middle", "high")
    folder = write_beside(tmp_path / "best-x.safetensors", spec, spec.to_state(flat), classes)
    assert folder == tmp_path / "best-x-hf"
    again = arch_config(f"hf:{folder}")
    assert class_names(again.builder, 3) == classes and again.inputs.shape == config.inputs.shape
    if kind == "vit":
        images = torch.rand(2, 3, 8, 8)
        model = AutoModelForImageClassification.from_pretrained(folder).eval()
        wanted = network_outputs(spec, flat, config.inputs.prepare(images))
        with torch.no_grad():
            assert torch.allclose(model((images - 0.5) / 0.25).logits, wanted, atol=1e-5)
    else:
        wanted = network_outputs(spec, flat, config.inputs.prepare(to_bytes(TEXTS)))
        assert torch.allclose(own_logits(folder, [(text,) for text in TEXTS]), wanted, atol=1e-5)
    write_beside(tmp_path / "other.safetensors", spec, spec.to_state(flat), ("a", "b"))
    assert class_names(f"hf:{tmp_path / 'other-hf'}", 3) == (), "names of other outputs are none"


def test_no_code_of_a_folder_runs(altered: Made, tmp_path: Path) -> None:
    own = {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Net"}
    folder = altered(model_type="evil", auto_map=own)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Net: ...\nclass Config: ...\n")
    with pytest.raises(BadInput, match="Code of a folder is never run"):
        arch_config(f"hf:{folder}")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("settings", "pieces"),
    [
        ({"architectures": ["BertForMaskedLM"]}, ("is no classifier", "BertForMaskedLM", "/num_classes:2")),
        ({"architectures": None}, ("is no classifier", "names no class, of the type 'bert'")),
        ({"architectures": ["MyClassification"]}, ("is no classifier", "MyClassification")),
        ({"model_type": "vit_mae", "architectures": ["ViTMAEForPreTraining"]}, ("is no classifier", "Name a folder")),
        ({"problem_type": "regression"}, ("does not choose among classes", "it gives numbers")),
        ({"problem_type": "multi_label_classification"}, ("does not choose among classes", "several labels")),
        ({"id2label": {"0": "score"}, "label2id": {"score": 0}}, ("does not choose among classes", "it has one output")),
        ({"pad_token_id": None}, ("has no pad_token_id", "Set its pad_token_id")),
        ({"model_type": "bart", "architectures": ["BartForSequenceClassification"], "classifier_dropout": 0}, ("one tensor under two names",)),
        ({"hidden_act": 7}, ("transformers cannot read",)),
    ],
)  # fmt: skip
def test_settings_of_no_classifier_are_refused(altered: Made, settings: Any, pieces: tuple[str, ...]) -> None:
    with pytest.raises(BadInput) as caught:
        arch_config(f"hf:{altered(**settings)}")
    assert all(piece in str(caught.value) for piece in pieces)


@pytest.mark.parametrize(
    ("name", "given", "error", "piece"),
    [
        ("hf:{bert}/context:65", {}, BadInput, "it reads 2 to 64"),
        ("hf:{bert}/context:1", {}, BadInput, "it reads 2 to 64"),
        ("hf:{bert}/depth:3", {}, NotFound, "there is no option of hf:"),
        ("hf:{bert}/num_classes:1", {}, BadInput, "cannot have 1 classes"),
        ("hf:{bert}", {"mean": (0.5,)}, BadInput, "it reads texts"),
        ("hf:{vit}/context:8", {}, BadInput, "it reads images"),
        ("hf:{bert}/nothing/here", {}, NotFound, "there is no classifier"),
        ("hf:nobody-of-this-name/no-such-model", {}, Offline, "could not be fetched"),
        ("hf:{empty}", {}, BadInput, "transformers cannot read"),
    ],
)
def test_names_that_do_not_fit_are_refused(
    made: Made, tmp_path: Path, name: str, given: Any, error: type[PopgenError], piece: str
) -> None:
    with pytest.raises(error) as caught:
        arch_config(name.format(bert=made(), vit=made("vit"), empty=tmp_path), **given)
    assert piece in str(caught.value)


def test_what_is_missing_in_a_folder_is_named(altered: Made) -> None:
    folder = altered()
    state = load_file(folder / "model.safetensors")
    save_file(
        {name: one for name, one in state.items() if "classifier" not in name},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(BadInput, match="lacks weights of its own\nclassifier.bias, classifier.weight"):
        pretrained_state(f"hf:{folder}")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match="is no classifier of transformers"):
        pretrained_state(f"hf:{folder}")
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(BadInput, match="transformers cannot read"):
        pretrained_state(f"hf:{folder}")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "pad_token": None}))
    with pytest.raises(BadInput, match="has no token to pad with"):
        arch_config(f"hf:{folder}")


def test_images_of_unknown_form_are_asked_for(altered: Made) -> None:
    folder = altered("vit")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(BadInput, match="is not known: mean, std\nit has no preprocessor_config.json"):
        arch_config(f"hf:{folder}")
    assert arch_config(f"hf:{folder}", mean=(0.5,), std=(0.5,)).inputs.shape == (3, 8, 8)


def test_texts_and_images_are_not_taken_for_each_other(made: Made) -> None:
    with pytest.raises(BadInput, match="reads texts, and the examples are torch.float32"):
        arch_config(f"hf:{made()}").inputs.prepare(torch.zeros(1, 1, 8, 8))
    with pytest.raises(BadInput, match="cannot read examples of the shape"):
        arch_config(f"hf:{made('vit')}").inputs.prepare(to_bytes(["a"]))


def test_tensors_outside_of_layers_are_not_lost_silently() -> None:
    model = nn.Sequential(nn.Linear(1, 1))
    model.register_parameter("scale", nn.Parameter(torch.ones(1)))
    with pytest.raises(BadInput, match="a Sequential has weights outside its layers\nscale"):
        hold_children(nn.Module(), model)
