"""Codes of a generator as a form of archives: they are read back through the zoo, and taken only where they pay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from popgen.errors import BadInput, PopgenError
from popgen.generator import Generator
from popgen.generator.archive.codes import ArchiveCodes, GeneratorCodes
from popgen.zoo import Zoo
from popgen.zoo.archive.codecs.layout import Layout
from popgen.zoo.archive.codecs.sections import pack
from popgen.zoo.archive.write import Limit, archive_zoo


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator.from_pretrained("digits")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """Four networks of the packaged zoo, whose data sets are quick to make."""
    digits = Zoo.open("digits")
    made = Zoo.create(tmp_path_factory.mktemp("zoos") / "four", "four")
    records = [digits.record(f"{a}/digits/rotate:{turn}/s0") for a in ("mlp-s", "cnn-s") for turn in (0, 30)]
    made.add((record, digits.matrix([record])[0]) for record in records)
    made.finalize()
    return made


class Free(ArchiveCodes):
    """A generator that counts for nothing, as it would for thousands of checkpoints."""

    def save(self, folder: Path) -> int:
        super().save(folder)
        return 0


def test_a_code_is_what_the_generator_restores(generator: Generator, zoo: Zoo) -> None:
    codec, record = GeneratorCodes(generator, "cnn-s"), zoo.select(arch="cnn-s")[0]
    weights, layout = zoo.matrix([record]), Layout.of(zoo.spec("cnn-s"))
    packed = codec.encode(layout, weights[0].numpy(), None)
    latents = generator.encode("cnn-s", weights)
    restored = generator.restore("cnn-s", latents, generator.residual("cnn-s", weights, latents))[0]
    decoded = codec.decode(layout, packed, None)
    assert len(packed) == 8 + 2 * (32 + 32)
    assert np.abs(decoded - restored.numpy()).max() < 0.01 * float(restored.abs().max())
    assert (decoded == decoded.astype(np.float16)).all() and (codec.decode(layout, packed, None) == decoded).all()
    for bad, why in ((pack([b"ab"]), "need 128"), (pack([b"\x00\x7c" * 64]), "NaN or infinity")):
        with pytest.raises(ValueError, match=why):
            codec.decode(layout, bad, None)


def test_an_archive_with_codes_is_read_through_its_own_generator(
    generator: Generator, zoo: Zoo, tmp_path: Path
) -> None:
    made = archive_zoo(zoo, tmp_path / "a", Limit(max_loss=3.0), codes=Free(generator))
    assert made.codecs["generator"] >= 2 and made.worst_loss <= 3.0
    archive = Zoo.open(tmp_path / "a")
    assert archive.verify() == []
    coded = next(record for record in archive.records if "archived as generator" in record.note)
    flat = archive.matrix([coded])[0]
    codec, layout = GeneratorCodes(generator, coded.arch), Layout.of(zoo.spec(coded.arch))
    packed = codec.encode(layout, zoo.matrix([zoo.record(coded.id)])[0].numpy(), None)
    assert torch.equal(flat, torch.from_numpy(codec.decode(layout, packed, None)))
    assert Generator.from_pretrained(tmp_path / "a" / "generator").records == []
    moved = tmp_path / "moved"
    (tmp_path / "a").rename(moved)
    assert torch.equal(Zoo.open(moved).matrix([coded])[0], flat)
    for file in (moved / "generator").iterdir():
        file.unlink()
    (moved / "generator").rmdir()
    (tmp_path / "b").mkdir()
    moved = moved.rename(tmp_path / "b" / "moved")
    with pytest.raises(PopgenError, match="generator"):
        Zoo.open(moved).matrix([coded])


def test_a_generator_that_takes_more_than_it_spares_is_left_out(generator: Generator, zoo: Zoo, tmp_path: Path) -> None:
    made = archive_zoo(zoo, tmp_path / "a", Limit(max_loss=3.0), codes=ArchiveCodes(generator), images=100)
    assert "generator" not in made.codecs and not (tmp_path / "a" / "generator").exists()
    assert made.archive_bytes < made.zoo_bytes / 4


def test_a_generator_of_other_tensors_has_no_codec(generator: Generator) -> None:
    codes = ArchiveCodes(generator)
    assert codes.codec("cnn-s", "0" * 16) is None and codes.codec("resnet20", "") is None
    assert codes.codec("cnn-s", generator.spec("cnn-s").fingerprint) is not None


def test_a_generator_of_directions_alone_is_refused() -> None:
    bare = Generator.from_pretrained("digits")
    bare.config = bare.config.model_copy(update={"vae": bare.config.vae.model_copy(update={"steps": 0})})
    with pytest.raises(BadInput, match="no latents"):
        ArchiveCodes(bare)
