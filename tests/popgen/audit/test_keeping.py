"""What is said of a generator that loses its zoo's checkpoints, or is larger than the zoo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from popgen.archs import arch_config
from popgen.audit.compression import Compression, Lost
from popgen.audit.keeping import keeping_remarks
from popgen.generator import Generator
from popgen.zoo import Checkpoint, Zoo


def losing(points: float) -> Compression:
    """The measurement of the packaged generator, with this many points lost by cnn-s."""
    measured = Compression.from_json(Generator.from_pretrained("digits").provenance.metrics["compression"])
    *others, form = measured.forms
    lost = replace(form, archs={**form.archs, "cnn-s": Lost(points / 100, 0.3)})
    return replace(measured, forms=[*others, lost])


def generator_of(rank: int) -> Generator:
    made = Generator.from_pretrained("digits")
    restore = made.config.restore.model_copy(update={"rank": rank})
    made.config = made.config.model_copy(update={"restore": restore})
    return made


def zoo_of(folder: Path, **fields: str) -> Zoo:
    zoo = Zoo.create(folder, "copies")
    for seed in range(3):
        made = {"id": f"n{seed}", "arch": "cnn-s", "data": "digits", "lineage": f"n{seed}", **fields}
        zoo.add([(Checkpoint(arch_config=arch_config("cnn-s"), **made), torch.zeros(3818))])
    return zoo


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"parent": "start:zoos/base#cnn-s/base"}, "They are fine-tuned copies of one base, zoos/base#cnn-s/base, and"),
        ({"parent": "cnn-s/digits/base"}, "They are fine-tuned copies of one base, cnn-s/digits/base, and such copies"),
        ({"lineage": "published"}, "They are fine-tuned copies of one base, published, and such copies differ in more"),
        ({"parent": "start:0"}, "They differ in more than a latent of 32 numbers and a residual code of 2 can say."),
        ({}, "They differ in more than a latent of 32 numbers"),
    ],
)
def test_lost_points_are_explained(tmp_path: Path, fields: dict[str, str], why: str) -> None:
    lost, larger = keeping_remarks(generator_of(rank=2), zoo_of(tmp_path, **fields), losing(15.2))
    assert "lose accuracy when they are decoded from their codes, in points: cnn-s 15.2." in lost
    assert why in lost
    assert "raise generator.restore.rank (now 2, at most 3, the number of checkpoints)" in lost
    assert larger.startswith("The generator's folder has 7.01 MB, that of its zoo 0.0")


def test_a_rank_that_is_high_enough_is_not_raised(tmp_path: Path) -> None:
    lost, _ = keeping_remarks(generator_of(rank=3), zoo_of(tmp_path), losing(15.2))
    assert "restore.rank" not in lost and "train longer (generator.vae.steps, generator.restore.steps)" in lost


def test_a_generator_that_keeps_its_zoo_says_nothing(tmp_path: Path) -> None:
    zoo = zoo_of(tmp_path)
    (tmp_path / "shards" / "large").write_bytes(bytes(8_000_000))
    assert keeping_remarks(Generator.from_pretrained("digits"), zoo, losing(1.9)) == []
