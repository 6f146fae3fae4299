"""The stored embeddings of a generator's architectures: they are the encoder's, and are used only where they hold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from popgen.data import load_data
from popgen.encoders.arch import ArchTextEncoder, encoder_sha256
from popgen.errors import BrokenFile
from popgen.generator import Generator
from popgen.generator.texts import FILE, StoredTexts
from popgen.refs import asset


@pytest.fixture(scope="module")
def shipped() -> Generator:
    return Generator.from_pretrained("digits")


def copied(folder: Path) -> Path:
    packaged = asset("generators", "digits")
    assert packaged is not None
    return Path(shutil.copytree(packaged, folder / "copy"))


def test_the_shipped_embeddings_are_those_of_its_encoder(shipped: Generator) -> None:
    assert shipped.texts.holds("text-tiny", shipped.specs.values())
    encoder = ArchTextEncoder.load("text-tiny")
    for config in shipped.archs.values():
        assert torch.equal(shipped.texts.encode([config.text()]), encoder.encode([config.text()]))


def test_a_folder_without_them_gives_the_same_networks(shipped: Generator, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / FILE).unlink()
    old, data = Generator.from_pretrained(folder), load_data("digits/rotate:45")
    assert not old.texts.embeddings
    assert old.sha256 == shipped.sha256
    assert torch.equal(old.sample("cnn-s", data, n=2), shipped.sample("cnn-s", data, n=2))


def test_they_are_saved_with_the_generator(shipped: Generator, tmp_path: Path) -> None:
    again = Generator.from_pretrained(shipped.save_pretrained(tmp_path / "again"))
    assert again.texts.holds("text-tiny", shipped.specs.values())
    assert (tmp_path / "again" / FILE).read_bytes() == (copied(tmp_path) / FILE).read_bytes()


def test_they_hold_for_their_encoder_and_their_architectures_alone(shipped: Generator, tmp_path: Path) -> None:
    specs, packaged = list(shipped.specs.values()), asset("encoders", "text-tiny")
    assert packaged is not None
    encoder = Path(shutil.copytree(packaged, tmp_path / "encoder"))
    assert encoder_sha256(str(encoder)) == encoder_sha256("text-tiny")
    stored = StoredTexts.of(str(encoder), specs[:1], torch.zeros(1, 64))
    assert stored.holds(str(encoder), specs[:1])
    assert not stored.holds(str(encoder), specs)
    assert not stored.holds("text-tiny", specs[:1])
    (encoder / "tokenizer.json").write_text((encoder / "tokenizer.json").read_text() + " ")
    assert not stored.holds(str(encoder), specs[:1])


@pytest.mark.parametrize("content", ["", "[]", '{"encoder": "text-tiny"}', '{"embeddings": {"a": [1.0]}}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    folder = copied(tmp_path)
    (folder / FILE).write_text(content)
    with pytest.raises(BrokenFile, match=rf"{FILE} cannot be read\n.*\nDelete it"):
        Generator.from_pretrained(folder)


def test_embeddings_of_another_length_are_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    stored = json.loads((folder / FILE).read_text())
    stored["embeddings"] = {text: vector[:-1] for text, vector in stored["embeddings"].items()}
    (folder / FILE).write_text(json.dumps(stored))
    with pytest.raises(BrokenFile, match="is not a list of 64 numbers"):
        Generator.from_pretrained(folder)
