"""Training without the zoo's data: labels are the answers of its networks, by hand; a zoo whose file of images is gone trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from popgen.configs.generator import StandInConfig
from popgen.data import load_data
from popgen.errors import NotFound
from popgen.generator import Generator
from popgen.networks.forward import network_outputs
from popgen.zoo import Zoo
from popgen.zoo.stand_in import data_reader, labelled_by

GONE = """
zoo:
  name: gone
  archs: [mlp-s]
  data: ["npz:mine.npz"]
  seeds: [0, 1, 2]
  held_out: {seeds: [2]}
  recipe: {epochs: 8}
  workers: 0
generator:
  vae: {steps: 30, gate: 1.0, width: 32, heads: 2, behaviour_networks: 2}
  encoders: {steps: 6, width: 32, heads: 2}
  prior: {steps: 6, width: 32, heads: 2, layers: 1}
  tune: {steps: 4}
  describe: {steps: 4}
  restore: {steps: 4, networks: 2}
"""


def test_labels_are_the_mean_answers_of_the_networks() -> None:
    zoo, images = Zoo.open("digits"), load_data("digits/rotate:45")
    made = labelled_by(zoo, "digits/invert", images)
    records = [r for arch in zoo.archs for r in zoo.select(arch, "digits/invert", held_out=False)[:4]]
    chances = [
        network_outputs(
            zoo.spec(r.arch), zoo.matrix([r])[0], zoo.spec(r.arch).config.inputs.prepare(images.val.inputs)
        ).softmax(1)
        for r in records
    ]
    assert len(records) == 8  # two training seeds of each of four architectures
    assert torch.equal(made.val.targets, torch.stack(chances).mean(0).argmax(1))
    assert torch.equal(made.test.inputs, images.test.inputs)
    assert made.name == "digits/invert" and made.classes == images.classes
    assert made.remarks == ("digits/invert: images of digits/rotate:45 stand in, labelled by 8 networks of the zoo",)
    # Networks for inverted digits are not those for digits: their answers on digits are another labelling.
    assert float((made.val.targets == images.val.targets).float().mean()) < 0.9


def test_only_those_without_images_are_replaced() -> None:
    zoo = Zoo.open("digits")
    read = data_reader(zoo, StandInConfig(images="digits/rotate:45", data=["digits/invert"]))
    assert torch.equal(read("digits/blur").train.inputs, load_data("digits/blur").train.inputs)
    assert torch.equal(read("digits/invert").train.inputs, load_data("digits/rotate:45").train.inputs)
    assert read("digits/invert") is read("digits/invert")
    with pytest.raises(NotFound, match=r"data set of the zoo called 'digits/invrt'"):
        data_reader(zoo, StandInConfig(images="digits", data=["digits/invrt"]))


def test_every_class_has_training_images() -> None:
    zoo, images = Zoo.open("digits"), load_data("digits")
    black = images.each(lambda part: replace(part, inputs=0.01 * part.inputs))
    made = labelled_by(zoo, "digits/invert", black)
    assert len(made.val.targets.unique()) < 10  # some class is never the likeliest
    assert int(made.train.targets.bincount(minlength=10).min()) > 0


@pytest.mark.slow  # a zoo is built and a generator trained
def test_a_zoo_whose_images_are_gone_is_trained(popgen: Any, tmp_path: Path) -> None:
    train, test = load_data("digits").train, load_data("digits").test
    arrays = {"x_train": train.inputs, "y_train": train.targets, "x_test": test.inputs, "y_test": test.targets}
    np.savez(tmp_path / "mine.npz", **{name: tensor.numpy() for name, tensor in arrays.items()})
    (tmp_path / "gone.yaml").write_text(GONE)
    assert popgen("zoo", "build", "gone.yaml", cwd=tmp_path).code == 0
    (tmp_path / "mine.npz").unlink()
    failed = popgen("train", "gone.yaml", "--zoo", "zoos/gone", "--out", "failed", cwd=tmp_path, code=3)
    assert "mine.npz" in failed.err
    stand_in = "generator.stand_in.images=digits/rotate:15"
    made = popgen(
        "train", "gone.yaml", "--zoo", "zoos/gone", "--out", "made", "--set", stand_in, "--json", cwd=tmp_path
    ).json
    assert made["remarks"][0].startswith("Images of digits/rotate:15 stood in for those of the zoo's data sets")
    told = popgen("train", "gone.yaml", "--zoo", "zoos/gone", "--out", "told", "--set", stand_in, cwd=tmp_path)
    assert "generator: told" in told.out and "Images of digits/rotate:15 stood in" in told.err
    assert Generator.from_pretrained(tmp_path / "made").provenance.data == ["npz:mine.npz"]
