"""`lm:BASE` is an architecture: its network gives the likelihood of each next token, and its weights are transformers' own."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from popgen.archs import ArchConfig, ArchSpec, arch_config, build
from popgen.archs.construction import check_runs
from popgen.archs.language.bases import base_sha256
from popgen.archs.language.inputs import PADDING
from popgen.archs.outside import pretrained_state
from popgen.errors import BadInput, NotFound, PopgenError
from popgen.networks.forward import network_outputs
from popgen.networks.passes import Passes
from popgen.tasks import get_task
from popgen.texts import to_bytes

sys.path.insert(0, str(Path(__file__).parents[2]))
from tiny_lm import make_llama, save_llama, save_llama2c, save_tokens


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("models") / "tiny")


def test_a_name_makes_a_configuration_that_json_keeps(folder: Path) -> None:
    config = arch_config(f"lm:{folder}/context:24")
    assert (config.inputs.shape, config.classes, config.task) == ((24,), 1, "next-token")
    assert ArchConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert config.text() == "language model tiny, input 24 tokens, 1 classes"
    assert arch_config(f"lm:{folder}").inputs.shape == (64,), "the model reads no more"
    check_runs(config)


def test_likelihoods_are_those_of_the_model_and_padding_has_none(folder: Path) -> None:
    config = arch_config(f"lm:{folder}/context:12")
    spec, model = ArchSpec.from_config(config), make_llama()
    assert [tensor.name for tensor in spec.tensors] == [n for n in model.state_dict() if n != "lm_head.weight"]
    flat = spec.to_flat(pretrained_state(f"lm:{folder}"))
    ids = config.inputs.prepare(to_bytes(["a ship", "a white bird near the shore", ""]))
    assert ids.shape == (3, 12) and (ids != PADDING).sum(1).tolist() == [6, 12, 0]
    with torch.no_grad():
        found = network_outputs(spec, flat, ids)
        logits = model(ids.clamp_min(0)).logits.log_softmax(-1)[:, :-1]
    wanted = logits.gather(2, ids[:, 1:].clamp_min(0).unsqueeze(2)) * (ids[:, 1:, None] != PADDING)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.equal(found == 0, (ids[:, 1:, None] == PADDING))
    assert torch.allclose(Passes(spec, ids).outputs(flat), found, atol=1e-6)
    tokens = 5 + 11
    assert get_task("next-token").score(found, torch.zeros(3)) == pytest.approx(float((-wanted.sum() / tokens).exp()))


def test_a_tied_embedding_learns_from_both_ends(folder: Path) -> None:
    config = arch_config(f"lm:{folder}/context:12")
    spec, model = ArchSpec.from_config(config), make_llama()
    flat = spec.to_flat(pretrained_state(f"lm:{folder}")).requires_grad_()
    ids = config.inputs.prepare(to_bytes(["the old ship"]))
    get_task("next-token").loss(network_outputs(spec, flat, ids), torch.zeros(1)).backward()
    model(ids, labels=ids).loss.backward()
    assert flat.grad is not None
    gradient = spec.to_state(flat.grad)["model.embed_tokens.weight"]
    assert torch.allclose(gradient, model.get_input_embeddings().weight.grad, atol=1e-6)


def test_a_file_of_llama2c_is_the_same_architecture(tmp_path: Path) -> None:
    model = make_llama(vocabulary=262)
    file = save_llama2c(tmp_path / "model.bin", model)
    save_tokens(tmp_path / "tok262.bin", {"a": 0.0, " ": -1.0, " a": -2.0})
    spec, state = ArchSpec.from_config(f"lm:{file}/context:8"), pretrained_state(f"lm:{file}")
    assert spec.differences({name: tuple(one.shape) for name, one in state.items()}) == []
    ids = spec.config.inputs.prepare(to_bytes(["a"]))
    assert ids.tolist() == [[1, 261, *[PADDING] * 6]]
    net = build(spec.config)
    net.load_state_dict(state)
    with torch.no_grad():
        wanted = model(torch.tensor([[1]])).logits[0, 0].log_softmax(0)[261]
        assert torch.allclose(net(ids)[0, 0, 0], wanted, atol=1e-5)


def test_a_base_is_kept_with_the_hash_of_its_files_wherever_they_are(folder: Path, tmp_path: Path) -> None:
    config, copied = arch_config(f"lm:{folder}"), Path(shutil.copytree(folder, tmp_path / "copy"))
    assert config.options == {"base_sha256": base_sha256(str(copied))} and len(config.options["base_sha256"]) == 64
    assert base_sha256("owner/name") == "", "of the hub only the name is known"
    file = save_llama2c(tmp_path / "model.bin", make_llama(vocabulary=262))
    save_tokens(tmp_path / "tok262.bin", {"a": 0.0, " ": -1.0, " a": -2.0})
    before = base_sha256(str(file))
    save_tokens(tmp_path / "tok262.bin", {"a": 0.0, " ": -1.0, " b": -2.0})
    base_sha256.cache_clear()
    assert base_sha256(str(file)) != before, "its tokenizer is another one"


def test_a_base_whose_files_changed_is_refused(folder: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(folder, tmp_path / "tiny"))
    stored = arch_config(f"lm:{copied}/context:8").to_json()
    make_llama(seed=1).save_pretrained(copied)
    base_sha256.cache_clear()  # as in a process that starts later
    with pytest.raises(BadInput, match="is not the one that the network was made with") as raised:
        ArchSpec.from_config(ArchConfig.from_json(stored))
    assert stored["options"]["base_sha256"][:12] in str(raised.value) and str(copied) in str(raised.value)
    unknown = {**stored, "options": {}}  # as popgen wrote them before it kept a hash
    assert build(ArchConfig.from_json(unknown)) is not None


def test_no_code_of_a_folder_runs(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Net: ...\nclass Config: ...\n")
    config = json.loads((folder / "config.json").read_text())
    own = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Net"}
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "evil", "auto_map": own}))
    with pytest.raises(BadInput, match="Code of a folder is never run"):
        arch_config(f"lm:{tmp_path}")
    assert not (tmp_path / "ran").exists()


def test_weights_are_safetensors_alone(tmp_path: Path, folder: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    torch.save(make_llama().state_dict(), tmp_path / "pytorch_model.bin")
    assert arch_config(f"lm:{tmp_path}").inputs.shape == (64,)
    with pytest.raises(PopgenError, match="is no language model of transformers"):
        pretrained_state(f"lm:{tmp_path}")


@pytest.mark.parametrize(
    ("name", "error", "piece"),
    [
        ("lm:{folder}/context:65", BadInput, "it reads 2 to 64"),
        ("lm:{folder}/depth:3", BadInput, "has no option 'depth'"),
        ("lm:{folder}/nothing/here", NotFound, "there is no language model"),
        ("lm:{empty}", BadInput, "transformers cannot read"),
        ("lm:{bert}", BadInput, "of which transformers has no causal language model"),
    ],
)
def test_what_is_no_language_model_is_refused(
    tmp_path: Path, folder: Path, name: str, error: type[PopgenError], piece: str
) -> None:
    places = {"folder": folder, "empty": tmp_path / "empty", "bert": tmp_path / "clip"}
    places["empty"].mkdir()
    places["bert"].mkdir()
    (places["bert"] / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(error) as caught:
        arch_config(name.format(**places))
    assert piece in str(caught.value)


def test_images_are_no_texts(folder: Path) -> None:
    with pytest.raises(BadInput, match="reads texts, and the examples are torch.float32"):
        arch_config(f"lm:{folder}").inputs.prepare(torch.zeros(1, 1, 8, 8))
    with pytest.raises(BadInput, match="brings no weights of its own"):
        pretrained_state("cnn-s")
