"""The built-in generator of shifts: what it is made of, and that adapt works with it and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from popgen.configs.load import load, parse
from popgen.configs.spec import SpecFile
from popgen.generator import Generator, GeneratorConfig
from popgen.refs import ASSETS

SPEC = Path(__file__).parents[3] / "zoo_specs" / "cifar_shifts.yaml"
FOLDER = ASSETS / "generators" / "cifar_shifts"


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator.from_pretrained("cifar_shifts")


def test_it_was_made_from_the_spec(generator: Generator) -> None:
    spec = load(SPEC, SpecFile)
    assert parse(spec.generator or {}, GeneratorConfig, str(SPEC)) == generator.config
    assert set(generator.provenance.data) == set(spec.zoo.data_names)
    assert generator.provenance.zoo == spec.zoo.name and list(generator.specs) == ["resnet20"]


def test_it_knows_the_base_and_a_robust_copy_of_it(generator: Generator) -> None:
    base, robust = generator.bases["resnet20"], generator.robust["resnet20"]
    assert base.shape == robust.shape == (271098,) and 0 < (base - robust).abs().mean() < 0.02
    statistics = torch.cat(
        [torch.full((t.size,), t.kind in ("norm_mean", "norm_var")) for t in generator.specs["resnet20"].tensors]
    )
    assert torch.equal(base[statistics], robust[statistics]), "batch norm was frozen"


def test_the_card_names_sources_and_both_licences() -> None:
    card = (FOLDER / "README.md").read_text()
    assert "akamaster" in card and "Apache-2.0" in card and "Copyright (c) 2018, Yerlan Idelbayev" in card
    assert "Redistributions in binary form must reproduce the above copyright notice" in card
    assert (FOLDER / "model.safetensors").stat().st_size < 20_000_000
    named = re.findall(r"zoo_specs/\w+\.yaml", card)
    assert named and all((SPEC.parents[1] / name).exists() for name in named)


@pytest.mark.slow  # it fits a published network
@pytest.mark.usefixtures("here")
def test_photographs_without_labels_are_all_that_adapt_needs(popgen: Any, photos: Path) -> None:
    called = popgen("adapt", "--arch", "resnet20", "--data", f"folder:{photos}", "--json")
    rows = {row["name"]: row for row in called.json["rows"]}
    assert {"base", "AdaBN", "robust", "WiSE + BN mix", "line + BN mix", "generated + BN mix", "chosen"} <= set(rows)
    assert called.json["networks"] == 85 and called.json["images"] == 24
    assert json.loads(Path("adapted/result.json").read_text()) == called.json
    again = popgen("adapt", "--arch", "resnet20", "--data", f"folder:{photos}", "--out", "again", "--json").json
    assert again["rows"] == called.json["rows"]
    large = Image.new("RGB", (90, 60), (200, 30, 30))
    large.save(photos / "large.jpg")
    assert "images read: 25" in popgen("adapt", "--arch", "resnet20", "--data", f"folder:{photos}", "--out", "b").err


@pytest.mark.usefixtures("here")
def test_an_architecture_that_it_does_not_know(popgen: Any, photos: Path) -> None:
    called = popgen("adapt", "--arch", "resnet56", "--data", f"folder:{photos}", code=3)
    assert "resnet20" in called.err
