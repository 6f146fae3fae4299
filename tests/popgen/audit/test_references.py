"""Training checkpoints and references: their groups, their lineages, and architectures whose units cannot be matched."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from popgen.archs import ArchConfig, ArchSpec
from popgen.audit.training import find_group, find_outside, training_of
from popgen.errors import BadInput
from popgen.zoo import Checkpoint, Zoo


def zoo_of(folder: Path, config: ArchConfig, records: list[dict[str, object]]) -> tuple[Zoo, ArchSpec]:
    spec, random = ArchSpec.from_config(config), torch.Generator().manual_seed(0)
    zoo = Zoo.create(folder, "made-up")
    common = {"arch": config.name, "arch_config": config}
    made = [Checkpoint.model_validate({"id": str(i), **common, **one}) for i, one in enumerate(records)]
    zoo.add((record, torch.randn(spec.size, generator=random)) for record in made)
    return zoo, spec


def test_references_are_of_one_data_set_and_held_out_ones_join_them(tmp_path: Path) -> None:
    config = ArchSpec.from_config("mlp-s").config
    rows: list[dict[str, object]] = [
        {"data": "digits", "lineage": "a"},
        {"data": "digits", "lineage": "b"},
        {"data": "digits/blur", "lineage": "c"},
        {"data": "digits/blur", "lineage": "d"},
        {"data": "digits/blur", "lineage": "e", "held_out": True},
    ]
    zoo, spec = zoo_of(tmp_path / "zoo", config, rows)
    training = training_of(zoo, spec, "mlp-s", print)
    assert training.lineages == ("a", "b", "c", "d") and training.aligned is not None and not training.one_lineage
    accuracy = torch.tensor([0.9, 0.95, 0.3, 0.8])
    group = find_group(zoo, training, "digits/blur", accuracy, most=10)
    assert (group.data, group.near, group.order) == ("digits/blur", (2, 3), (2, 3, 1, 0))
    assert [r.id for r in group.references] == ["2", "3", "4"] and [r.id for r in group.held_out] == ["4"]
    assert group.lineages == ("c", "d", "e") and group.zoo is zoo
    unknown = find_group(zoo, training, "digits/rotate:45", accuracy, most=10)
    assert (unknown.data, unknown.near) == ("digits", (0, 1)), "the data set whose checkpoints are the most accurate"
    assert len(find_group(zoo, training, "digits/blur", accuracy, most=2).references) == 2


def test_networks_of_one_start_need_no_order_and_those_of_one_run_are_not_independent(tmp_path: Path) -> None:
    config = ArchSpec.from_config("mlp-s").config
    rows: list[dict[str, object]] = [{"data": "digits", "lineage": "run", "parent": "start:0"} for _ in range(3)]
    zoo, spec = zoo_of(tmp_path / "zoo", config, rows)
    said: list[str] = []
    training = training_of(zoo, spec, "mlp-s", said.append)
    assert training.aligned is None and training.one_lineage and training.lineages == ("0", "1", "2")
    assert said == [
        "mlp-s: all training checkpoints are of one lineage, so nothing shows how far apart independent ones are; "
        "--reference-zoo names some"
    ]


def test_another_zoo_gives_references_to_one_run(tmp_path: Path) -> None:
    config = ArchSpec.from_config("mlp-s").config
    run: list[dict[str, object]] = [{"data": "digits", "lineage": "a"} for _ in range(3)]
    zoo, spec = zoo_of(tmp_path / "zoo", config, run)
    rows: list[dict[str, object]] = [{"data": "digits", "lineage": name} for name in "aab"]
    others, random = Zoo.create(tmp_path / "others", "others"), torch.Generator().manual_seed(1)
    made = [
        Checkpoint.model_validate({"id": f"o{i}", "arch": "mine", "arch_config": config, **row})
        for i, row in enumerate(rows)
    ]
    others.add((record, torch.randn(spec.size, generator=random)) for record in made)
    said: list[str] = []
    outside = find_outside(others, spec, zoo)
    training = training_of(zoo, spec, "mlp-s", said.append, outside)
    assert training.lineages == ("a", "a", "a") and not training.one_lineage and said == []
    group = find_group(zoo, training, "digits", torch.ones(3), most=10, outside=outside)
    assert [r.id for r in group.references] == ["o0", "o1", "o2"] and group.zoo is others
    assert group.lineages == ("others: a", "others: a", "others: b"), "equal names in two zoos are two lineages"
    with pytest.raises(BadInput, match="'others' has no networks of 'mlp-s' for 'digits/blur'\nit has them for digits"):
        blurred = dataclasses.replace(
            training, records=tuple(r.model_copy(update={"data": "digits/blur"}) for r in zoo.records)
        )
        find_group(zoo, blurred, "digits/blur", torch.ones(3), most=10, outside=outside)
    with pytest.raises(BadInput, match="3 of 3 references are training checkpoints, such as 0"):
        find_outside(zoo, spec, zoo)
    with pytest.raises(BadInput, match="the zoo of references 'others' has no networks of 'cnn-s'\nit has mine"):
        find_outside(others, ArchSpec.from_config("cnn-s"), zoo)


def test_units_that_cannot_be_matched_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_norm_net.py").write_text(
        "from torch import nn\n\ndef make():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.LayerNorm(8), nn.Linear(8, 10))\n"
    )
    monkeypatch.setenv("POPGEN_TRUST", "own_norm_net:make")
    monkeypatch.syspath_prepend(str(tmp_path))
    rows: list[dict[str, object]] = [{"data": "digits", "lineage": name} for name in "abc"]
    zoo, spec = zoo_of(tmp_path / "zoo", ArchConfig("own", "own_norm_net:make"), rows)
    said: list[str] = []
    training = training_of(zoo, spec, "own", said.append)
    assert said[0].startswith("own: distances are not modulo permutation: networks of 'own' cannot be aligned, because")
    weights = zoo.matrix(zoo.records)
    found = training.space.places(weights, torch.tensor([[1], [2], [0]]))
    assert found.nearest.max() < 1e-3
