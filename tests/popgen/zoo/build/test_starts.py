"""The networks that a zoo's training starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from popgen.archs import arch_config, build
from popgen.configs.spec import ZooSpec
from popgen.errors import BadInput
from popgen.zoo import Zoo, build_zoo


def made(folder: Path, start: int | str) -> Zoo:
    spec = ZooSpec(name=folder.name, archs=["mlp-s"], data=["digits"], start=start, recipe={"epochs": 1}, workers=0)
    return build_zoo(spec, folder, progress=False)


def only_network(zoo: Zoo) -> Tensor:
    return zoo.matrix(zoo.records)[0]


def test_a_chain_of_starts_leads_to_the_base(tmp_path: Path) -> None:
    first = made(tmp_path / "first", 0)
    assert first.base("mlp-s") is None, "random weights are no base"
    robust = made(tmp_path / "robust", f"{tmp_path / 'first'}#mlp-s/digits/s0")
    base = only_network(first)
    assert torch.equal(robust.base("mlp-s"), base) and torch.equal(robust.start("mlp-s"), base)
    last = made(tmp_path / "last", f"{tmp_path / 'robust'}#mlp-s/digits/s0")
    assert torch.equal(last.base("mlp-s"), base)
    assert torch.equal(last.start("mlp-s"), only_network(robust))
    assert torch.equal(Zoo.open(tmp_path / "last").base("mlp-s"), base)


def test_each_architecture_starts_from_its_network_of_another_zoo(tmp_path: Path) -> None:
    """A head for another number of classes is drawn anew; the record says where the rest comes from."""
    three = [{"name": name, "classes": 3} for name in ("mlp-s", "cnn-s")]
    given = {"seeds": [0], "recipe": {"epochs": 1}, "workers": 0}
    first = build_zoo(
        ZooSpec(name="first", archs=three, data=["digits/classes:1+4+7"], **given), tmp_path / "first", progress=False
    )
    spec = ZooSpec(name="next", archs=["mlp-s", "cnn-s"], data=["digits"], start=str(first.folder), **given)
    zoo = build_zoo(spec, tmp_path / "next", progress=False)
    for name, head in (("mlp-s", "3"), ("cnn-s", "6")):
        start, fresh = zoo.spec(name).to_state(zoo.start(name)), build(arch_config(name), seed=0).state_dict()
        trained = first.state(first.select(arch=name)[0])
        assert start.keys() == trained.keys()
        for key, tensor in start.items():
            assert torch.equal(tensor, (fresh if key.startswith(f"{head}.") else trained)[key]), key
        assert zoo.base(name) is None
    assert {record.arch: record.parent for record in zoo.records} == {
        name: f"start:{first.folder}#{name}/digits/classes:1+4+7/s0" for name in ("mlp-s", "cnn-s")
    }


def test_a_zoo_to_start_from_has_one_network_of_each_architecture(tmp_path: Path) -> None:
    made(tmp_path / "first", 0)
    spec = ZooSpec(name="next", archs=["cnn-s"], data=["digits"], start=str(tmp_path / "first"), workers=0)
    with pytest.raises(BadInput, match="which has 0 checkpoints of 'cnn-s'") as caught:
        build_zoo(spec, tmp_path / "next", progress=False)
    assert "mlp-s/digits/s0" in str(caught.value.why)
    assert not (tmp_path / "next").exists()
